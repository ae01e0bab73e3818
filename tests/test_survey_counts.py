"""Claims about the numbers of a survey, each against NumPy on a network whose trace is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from survey_toy import CLASSES, IMAGES, LAYOUT, UNITS, Toy, image, loader
from torchpaths.errors import DataError, PathError, RunError
from torchpaths.path import Path
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.stages import stage_name, stages
from torchpaths.trace import Decision, Trace

OPEN = np.array([[o == "1" for o in opened] for opened, _, _ in IMAGES])
LABELS = np.array([label for _, _, label in IMAGES])
MACS = 100 + OPEN @ np.array([10, 20, 30, 7])


@pytest.fixture
def toy() -> Survey:
    return survey(Toy(), loader(), keep_paths=True)


def test_openness_is_the_share_of_each_class_that_opened_each_unit(toy: Survey) -> None:
    np.testing.assert_array_equal(toy.openness[0], [1, 0.75, 0.5, 0.25])
    np.testing.assert_array_equal(toy.openness[1], OPEN[LABELS == 1].mean(0))
    np.testing.assert_array_equal(toy.rates, OPEN.mean(0))


def test_a_class_without_images_is_kept_and_its_numbers_are_nan(toy: Survey) -> None:
    assert toy.images.tolist() == [4, 6, 0]
    assert np.isnan(toy.openness[2]).all()
    assert np.isnan(toy.accuracy_by_class[2])
    assert np.isnan(toy.executed_by_class[2]).all()
    assert np.isnan(toy.macs_by_class[2])
    assert np.isfinite([toy.macs, toy.macs_std, toy.accuracy, *toy.executed]).all()


def test_accuracy_is_top_1_in_all_and_by_class(toy: Survey) -> None:
    assert toy.correct.tolist() == [3, 4, 0]
    assert toy.accuracy == 0.7


def test_macs_are_what_always_runs_plus_the_open_units(toy: Survey) -> None:
    assert toy.macs == pytest.approx(MACS.mean(), rel=1e-14)
    assert toy.macs_std == pytest.approx(MACS.std(), rel=1e-12)
    for c in (0, 1):
        assert toy.macs_by_class[c] == pytest.approx(MACS[c == LABELS].mean(), rel=1e-14)
        assert toy.macs_std_by_class[c] == pytest.approx(MACS[c == LABELS].std(), rel=1e-12)


def test_the_histogram_counts_images_by_units_executed(toy: Survey) -> None:
    executed = OPEN.sum(1)
    for c in (0, 1):
        np.testing.assert_array_equal(toy.histogram[c], np.bincount(executed[c == LABELS], minlength=UNITS + 1))
        np.testing.assert_allclose(
            toy.executed_by_class[c], [executed[c == LABELS].mean(), executed[c == LABELS].std()]
        )
    assert toy.executed == pytest.approx((executed.mean(), executed.std()))


def test_paths_are_counted_with_the_class_that_takes_them_most(toy: Survey) -> None:
    assert toy.distinct_paths == len({opened for opened, _, _ in IMAGES}) == 6
    first, second = toy.top_paths[:2]
    assert [first.count, second.count] == [3, 3]
    taken = {tuple(toy.unpack(p.packed)["layer2.0"]): (p.label, p.share) for p in (first, second)}
    assert taken == {(True, True): (1, 3 / 6), (True, False): (0, 2 / 4)}
    assert sum(p.count for p in toy.top_paths) == 10


def test_samples_keep_path_prediction_and_macs_in_the_loaders_order(toy: Survey) -> None:
    assert toy.samples is not None
    np.testing.assert_array_equal(toy.samples.opened(UNITS), OPEN)
    assert toy.samples.predictions.tolist() == [prediction for _, prediction, _ in IMAGES]
    np.testing.assert_array_equal(toy.samples.labels, LABELS)
    np.testing.assert_array_equal(toy.samples.macs, MACS)
    assert survey(Toy(), loader()).samples is None


@pytest.mark.parametrize("size", [1, 4, 20])
def test_a_survey_does_not_depend_on_how_images_are_cut_into_batches(size: int) -> None:
    # "1011" and "1001" alone in a batch skip layer2.0, so only images that open layer1.1 are compared.
    x, y = loader()[0]
    deep = (x[:, 1] > 0).nonzero().flatten()
    x, y = x[deep].repeat(3, 1), y[deep].repeat(3)
    assert len(x) == 21
    whole = survey(Toy(), [(x, y)], keep_paths=True)
    parts = survey(Toy(), list(zip(torch.split(x, size), torch.split(y, size), strict=True)), keep_paths=True)
    assert_same(whole, parts)


def assert_same(a: Survey, b: Survey) -> None:
    """All fields, bit for bit."""
    for name in ("images", "correct", "opened", "histogram", "macs_by_class", "macs_std_by_class"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    assert (a.distinct_paths, a.top_paths, a.decided, a.classes) == (
        b.distinct_paths,
        b.top_paths,
        b.decided,
        b.classes,
    )
    assert (a.samples is None) == (b.samples is None)
    if a.samples is not None and b.samples is not None:
        for name in ("packed", "labels", "predictions", "macs"):
            np.testing.assert_array_equal(getattr(a.samples, name), getattr(b.samples, name), strict=True)


def test_a_site_that_did_not_run_counts_as_closed() -> None:
    found = survey(Toy(), [(image("1011", 1)[None], torch.tensor([1]))])
    assert found.opened[1].tolist() == [1, 0, 0, 0]
    assert found.macs == 110


def test_a_site_is_decided_where_its_decisions_carry_a_score(toy: Survey) -> None:
    assert toy.decided == ("layer1.1", "layer2.0")
    forced = survey(Toy(), loader(), path=Path({"layer1.1": [True]}))
    assert forced.decided == ("layer2.0",)


def test_a_path_from_outside_is_taken_by_every_batch() -> None:
    found = survey(Toy(), loader((5, 5)), path=Path({"layer1.1": [False], "layer2.0": [False, True]}))
    assert found.rates.tolist() == [1, 0, 0, 1]
    assert found.distinct_paths == 1


def test_squares_of_macs_do_not_overflow() -> None:
    class Huge(Toy):
        layout = type(LAYOUT)(LAYOUT.units, type(LAYOUT.fixed)(4 * 10**12, 1), LAYOUT.plain, "Huge")

    found = survey(Huge(), loader())
    assert found.macs_std == pytest.approx(MACS.std(), rel=1e-3)


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_training_mode_comes_back_module_by_module_also_after_an_exception(fails: bool) -> None:
    net = Toy().train()
    net.frozen.eval()
    before = modes(net)
    if fails:
        with pytest.raises(DataError):
            survey(net, [*loader(), (torch.ones(1, 7), torch.tensor([99]))])
    else:
        survey(net, loader())
    assert modes(net) == before == [True, False, True]


def test_class_names_are_numbers_where_none_are_given(toy: Survey) -> None:
    assert toy.classes == ("0", "1", "2")
    assert survey(Toy(), loader(), classes=["cat", "dog", "truck"]).classes == ("cat", "dog", "truck")


def test_a_loader_is_any_iterable_and_empty_batches_are_passed_over() -> None:
    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.ones(0, 7), torch.ones(0, dtype=torch.int64)
        yield from loader((6, 4))

    net = Toy()
    assert survey(net, stream(), progress=True).images.sum() == 10
    assert net.batches == [6, 4]


def bad(x: Any, y: Any) -> list[tuple[Any, Any]]:
    return [*loader(), (x, y)]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no images.*drop_last"),
        ([(torch.ones(0, 7), torch.ones(0, dtype=torch.int64))], "no images"),
        (bad(torch.ones(2, 7), torch.tensor([0, 3])), r"batch 1: label 3 is out of range for 3 classes \(0 to 2\)"),
        (bad(torch.ones(2, 7), torch.tensor([-1, 0])), "label -1 is out of range"),
        (bad(torch.ones(2, 7), torch.tensor([0.0, 1.0])), "class numbers, integers"),
        (bad(torch.ones(2, 7), torch.tensor([0])), "for 2 images"),
        ([*loader(), torch.ones(2, 7)], "no pair"),
    ],
)
def test_a_loader_that_gives_no_labelled_images_is_an_error_which_says_where(batches: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        survey(Toy(), batches)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_stop_the_survey_and_name_batch_and_image(value: float) -> None:
    x = torch.stack([image("1111", 0), image("1111", 1), image("1111", 2)])
    x[1, UNITS] = value
    with pytest.raises(RunError, match=r"batch 1: the scores of 1 of 3 images are not finite \(first: image 1"):
        survey(Toy(), [*loader(), (x, torch.tensor([0, 1, 2]))])


def test_a_wrong_number_of_class_names_is_an_error() -> None:
    with pytest.raises(DataError, match="2 class names for a network that gives 3 scores"):
        survey(Toy(), loader(), classes=["cat", "dog"])


class Strange(Toy):
    """A network whose trace does not fit its layout."""

    def __init__(self, site: str, width: int, scores: int = CLASSES) -> None:
        super().__init__()
        self.site, self.width, self.scores = site, width, scores

    def forward(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
        opened = torch.ones(len(x), self.width, dtype=torch.bool)
        return x[:, : self.scores] if self.scores else x[:, 0], {self.site: Decision(opened, opened.float())}


def test_a_trace_that_does_not_fit_the_layout_is_an_error() -> None:
    with pytest.raises(PathError, match=r"'layer1.9'.*Did you mean 'layer1"):
        survey(Strange("layer1.9", 1), loader())
    with pytest.raises(PathError, match=r"shape \(10, 3\) at site 'layer2.0'.*\[10, 2\]"):
        survey(Strange("layer2.0", 3), loader())


def test_scores_that_are_no_classifiers_are_an_error() -> None:
    with pytest.raises(DataError, match=r"scores of shape \(10,\) for 10 images"):
        survey(Strange("layer1.0", 1, scores=0), loader())


def test_the_function_is_found_in_the_package_whatever_was_imported_first() -> None:
    import torchpaths
    from torchpaths.surveys import figures

    assert torchpaths.survey is survey
    assert callable(figures.class_rates)


def test_stages_follow_from_the_names_of_sites() -> None:
    named = {
        "layer3.2": "layer3",
        "blocks.1.2": "blocks.1",
        "stages.0.blocks.1": "stages.0.blocks",
        "blocks.3.attn": "blocks",
        "stem.body": "stem",
        "body": "",
    }
    assert {site: stage_name(site) for site in named} == named
    assert [(s.name, s.start, s.labels) for s in stages(LAYOUT)] == [
        ("layer1", 0, ("0", "1")),
        ("layer2.0", 2, ("0", "1")),
    ]


def test_equal_counts_of_paths_are_ordered_by_their_bits_not_by_the_order_of_images() -> None:
    [(x, y)] = loader()
    backwards = survey(Toy(), [(x.flip(0), y.flip(0))])
    assert backwards.top_paths == survey(Toy(), [(x, y)]).top_paths
    assert Counter(p.count for p in backwards.top_paths) == {3: 2, 1: 4}
