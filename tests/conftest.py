"""Which tests `make test-fast` leaves out, and what begins first: the inner loop is for what breaks often and runs in
no time.

Marked ``slow`` are whole files that train, export, draw, start processes or run the pages; single tests of large
networks and compilations; and the laws on more than a few networks. `make test` runs everything.
"""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest

FILES = {
    "test_allocator",
    "test_class_cuts",
    "test_cli",
    "test_cli_attack",
    "test_cli_cut",
    "test_cli_decode",
    "test_cli_export",
    "test_cli_measure",
    "test_compiled",
    "test_composition",
    "test_cut",
    "test_decoding",
    "test_detection",
    "test_detection_train",
    "test_examples",
    "test_export",
    "test_explorer_live",
    "test_explorer_looks",
    "test_explorer_page",
    "test_export_files",
    "test_filter_report",
    "test_measure",
    "test_models_cifar_resnet",
    "test_models_matrix",
    "test_narrow",
    "test_narrow_files",
    "test_readme",
    "test_survey_figures",
    "test_together",
    "test_train_ddp",
    "test_train_resume",
    "test_train_run",
}
TESTS = {
    "test_a_cut_network_compiles_as_one_graph_and_copies",
    "test_a_cut_network_is_opened_where_torchpaths_is_not_installed",
    "test_a_shipped_scheme_is_what_the_search_finds_again",
    "test_compiled_as_one_graph_it_answers_as_eager",
    "test_every_network_is_as_it_was_after_a_refusal_and_after_routing",
    "test_gated_imagenet_resnets_have_the_published_codes_parameters",
    "test_large_schemes_are_made_within_a_minute",
    "test_parameters_and_macs_are_those_of_the_authors_networks",
    "test_public_names_stay_what_they_are_when_every_module_has_been_imported",
    "test_resnet50_costs_what_it_is_known_to_and_an_eighth_of_it_always_runs",
    "test_surveys_on_record_are_of_the_networks_they_were_made_with",
    "test_the_papers_schedules_fit_torchvisions_networks",
    "test_the_wheel_holds_the_shipped_schemes",
    "test_tools_that_trace_take_the_model_inside_as_any_other",
    "test_what_can_be_left_out_learns_to_refine",
}
NETWORKS = {"torchvision/resnet", "torchvision/vit", "torchvision/narrow"}
"""On which of the toys the laws are held in the inner loop."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        assert isinstance(item, pytest.Function)
        network = item.callspec.params.get("network", "") if hasattr(item, "callspec") else ""
        other = isinstance(network, str) and "/" in network and network not in NETWORKS
        if item.path.stem in FILES or item.originalname in TESTS or other:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.stem not in FILES)


def pytest_configure(config: pytest.Config) -> None:
    """Files are handed out in the order of the items, slow ones first: the plugin for several processes would begin
    with files of many tests, and a long file of few would be left for one process at the end."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collecting imports a million objects that all stay: looking for garbage among them, while they come and at every
    later search, takes a third of the time to collect and a tenth of many tests'."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
