"""Claims about what a survey counts besides rates, the samples it keeps, and merging: what several processes counted
comes bit for bit to what one would have, and what is kept is bounded."""

from __future__ import annotations

import dataclasses
import pathlib
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from coded_toys import CODED, WITH_BRANCHES
from survey_toy import IMAGES, LAYOUT, UNITS, Toy, image, loader
from torchpaths.coding.decode import coded_sites
from torchpaths.errors import DataError, PathError, RunError
from torchpaths.layout import Cost, Layout, Unit
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.surveys import Survey, survey, taken
from torchpaths.surveys.columns import Alone
from torchpaths.surveys.taken import Taken, TakenSoFar, hashed
from torchpaths.trace import Decision, Trace

OPEN = np.array([[o == "1" for o in opened] for opened, _, _ in IMAGES])
LABELS = np.array([label for _, _, label in IMAGES])
PREDICTED = np.array([prediction for _, prediction, _ in IMAGES])


@pytest.fixture
def toy() -> Survey:
    return survey(Toy(), loader(), keep_paths=True)


@pytest.fixture(scope="module")
def mixture() -> tuple[tp.Routed, list[tuple[Tensor, Tensor]]]:
    """A network of coded branches in gated blocks, and six batches."""
    torch.manual_seed(0)
    make, side, _ = WITH_BRANCHES["own/resnext"]
    x, y = torch.randn(24, 3, side, side), torch.arange(24) % 4  # the last of five classes has no images
    net = tp.route(make(), [tp.GatedBlocks(budget=tp.Budget(open=0.5)), CODED], example=x)
    for decider in net.deciders.values():
        if isinstance(decider, tp.deciders.gate.Gate):
            torch.nn.init.normal_(next(iter(decider.parameters())), std=3.0)
    return net, [(x[i : i + 4], y[i : i + 4]) for i in range(0, 24, 4)]


def written(found: Survey, folder: pathlib.Path) -> dict[str, bytes]:
    """What is in the files of a survey, by name."""
    found.save(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_confusion_counts_what_classes_were_taken_for(toy: Survey) -> None:
    assert toy.confusion is not None
    wanted = np.zeros((3, 3), np.int64)
    np.add.at(wanted, (LABELS, PREDICTED), 1)
    np.testing.assert_array_equal(toy.confusion, wanted, strict=True)


def test_units_that_are_open_together_are_counted_for_each_two(toy: Survey) -> None:
    assert toy.together is not None
    assert toy.together.units.tolist() == list(range(UNITS))
    np.testing.assert_array_equal(toy.together.counts, OPEN.T.astype(int) @ OPEN.astype(int))


def test_of_many_units_evenly_spread_ones_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchpaths.surveys.tally.MOST_TOGETHER", 3)
    found = survey(Toy(), loader()).together
    assert found is not None
    assert found.units.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(found.counts, (OPEN.T.astype(int) @ OPEN.astype(int))[np.ix_([0, 2, 3], [0, 2, 3])])


def test_a_path_is_as_rare_as_few_of_the_class_took_it(toy: Survey) -> None:
    others = np.array([[True, True, True, False], [False] * 4])
    np.testing.assert_array_equal(toy.rarity(others, np.array([0, 0])), [2 / 4, 0])
    shares = toy.rarity(OPEN, LABELS)
    counts = Counter((tuple(row), label) for row, label in zip(OPEN.tolist(), LABELS.tolist(), strict=True))
    sizes = np.bincount(LABELS)
    wanted = [
        counts[tuple(row), label] / sizes[label] for row, label in zip(OPEN.tolist(), LABELS.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(shares, wanted)
    assert np.isnan(toy.rarity(others, np.array([2, 2]))).all(), "a class without images has no common path"
    with pytest.raises(PathError, match=r"\[n, 4\] and \[n\]"):
        toy.rarity(others[:, :3], np.array([0, 0]))
    with pytest.raises(PathError, match="no class 3"):
        toy.rarity(others, np.array([0, 3]))


def test_what_those_on_a_path_were_taken_for_is_known(toy: Survey) -> None:
    assert toy.taken is not None
    most = next(p for p in toy.top_paths if p.packed == np.packbits([True] * 4).tobytes())
    assert toy.taken.confusion(most.packed).tolist() == [[1, 0, 1], [1, 1, 1], [1, 2, 1]]
    assert toy.taken.confusion(b"\x00").tolist() == []


def test_images_that_came_to_a_site_are_counted(toy: Survey) -> None:
    assert toy.ran is not None
    assert toy.ran.tolist() == [[4, 4, 4], [6, 6, 6], [0, 0, 0]]
    alone = survey(Toy(), [(image("1011", 1)[None], torch.tensor([1]))])
    assert alone.ran is not None
    assert alone.ran[1].tolist() == [1, 1, 0], "layer2.0 did not run"


def test_energies_are_means_over_the_images_that_came(mixture: tuple[tp.Routed, list[tuple[Tensor, Tensor]]]) -> None:
    net, batches = mixture
    found = survey(net, batches)
    assert found.energies is not None
    sums: Counter[tuple[int, int]] = Counter()
    came: Counter[tuple[int, int]] = Counter()
    numbers = {(unit.site, unit.index): i for i, unit in enumerate(net.layout.units)}
    net.eval()
    for x, y in batches:
        with torch.no_grad():
            _, trace = net(x)
        for site, made in trace.items():
            for row, energies in enumerate(made.response.get(ENERGIES, torch.zeros(0, 0)).tolist()):
                if made.ran is None or bool(made.ran[row]):
                    for unit, energy in enumerate(energies):
                        sums[int(y[row]), numbers[site, unit]] += energy
                        came[int(y[row]), numbers[site, unit]] += 1
    assert came, "some block with energies ran"
    wanted = np.full((5, len(numbers)), np.nan)
    for key, n in came.items():
        wanted[key] = sums[key] / n
    np.testing.assert_allclose(found.energies, wanted, rtol=0, atol=1e-6)


def test_coded_sites_belong_to_classes_and_gates_to_the_input(
    mixture: tuple[tp.Routed, list[tuple[Tensor, Tensor]]],
) -> None:
    net, batches = mixture
    data = survey(net, batches).to_json()
    decided = {(site["kind"], site["decided_by"]) for site in data["sites"]}
    assert decided == {("block", "input"), ("branches", "class")}
    assert set(data["energy"]["sites"]) <= {s["name"] for s in data["sites"] if s["kind"] == "branches"}
    code = survey(net, batches).code
    assert code is not None
    columns = {s["name"]: slice(s["start"], s["start"] + s["units"]) for s in data["sites"] if s["kind"] == "branches"}
    for site, coded in coded_sites(net).items():
        np.testing.assert_array_equal(code[:, columns[site]], coded.words.numpy())


@pytest.mark.parametrize("keep", [False, True, 7])
def test_surveys_of_two_processes_merge_to_that_of_one_bit_for_bit(
    mixture: tuple[tp.Routed, list[tuple[Tensor, Tensor]]], tmp_path: pathlib.Path, keep: bool | int
) -> None:
    net, batches = mixture
    names = ["a", "b", "c", "d", "e"]
    whole = survey(net, batches, classes=names, keep_paths=keep)
    for part, own in enumerate([(0, 3, 4), (1, 2, 5)]):  # each process has every other batch or so
        numbers = [4 * i + k for i in own for k in range(4)]
        half = survey(net, [batches[i] for i in own], classes=names, keep_paths=keep, numbers=numbers)
        half.save(tmp_path / str(part))
    one, two = (Survey.load(tmp_path / part, net.layout) for part in "01")
    for merged in (one.merge(two), two.merge(one)):
        assert written(merged, tmp_path / "merged") == written(whole, tmp_path / "whole")
    if keep == 7:
        assert one.merge(two).samples is not None
        assert len(one.merge(two).samples.numbers) == 7  # type: ignore[union-attr]


def test_the_sample_depends_on_the_images_numbers_alone() -> None:
    def kept(sizes: tuple[int, ...], numbers: list[int] | None = None) -> list[int]:
        samples = survey(Toy(), loader(sizes), keep_paths=4, numbers=numbers).samples
        assert samples is not None
        np.testing.assert_array_equal(samples.labels, LABELS[[n % 100 for n in samples.numbers]])
        return list(samples.numbers)

    first = kept((10,))
    assert len(first) == 4
    assert first == sorted(first) == kept((6, 4))
    assert kept((10,), list(range(100, 110))) != [n + 100 for n in first], "another draw for other numbers"


@pytest.mark.parametrize(("keep", "message"), [(-1, "keep_paths=-1"), (True, "numbers for 3 of 10")])
def test_a_sample_that_cannot_be_kept_is_refused(keep: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        survey(Toy(), loader(), keep_paths=keep, numbers=range(3))


def other_network(found: Survey) -> Survey:
    return dataclasses.replace(found, layout=dataclasses.replace(LAYOUT, plain=Cost(161, 55)))


REFUSED: dict[str, tuple[Callable[[Survey], Survey], str]] = {
    "another network": (other_network, "survey 2 is of network"),
    "other classes": (lambda found: dataclasses.replace(found, classes=("a", "b", "c")), "other classes"),
    "other paths kept": (lambda found: survey(Toy(), loader(), keep_paths=3), "3 images, the first of all images"),
    "an older version": (lambda found: dataclasses.replace(found, taken=None), "older version"),
    "the same images": (dataclasses.replace, "two images have the number 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_surveys_that_do_not_belong_together_do_not_merge(toy: Survey, case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        toy.merge(change(toy))


def test_merging_keeps_what_was_measured_only_where_all_have_it_alike() -> None:
    measured: dict[str, Any] = {"alone": Alone((0.1,) * 4, 10, 0.7), "name": "mine"}
    one = dataclasses.replace(survey(Toy(), loader()), **measured)
    two = survey(Toy(), loader())
    assert one.merge(two).alone is None
    assert one.merge(dataclasses.replace(two, **measured)).alone == measured["alone"]
    assert one.merge(two).name == "mine"


def table(paths: list[tuple[bytes, int, int]]) -> TakenSoFar:
    found = TakenSoFar(16)
    for packed, label, prediction in paths:
        found.add(np.frombuffer(packed, np.uint8)[None], [label], [prediction])
    return found


def test_of_more_paths_than_are_kept_a_sample_with_exact_counts_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "MOST_BYTES", 50 * 402)
    rng = np.random.default_rng(0)
    drawn = [(int(n).to_bytes(2), int(n) % 3, int(n) % 2) for n in rng.integers(0, 1000, 3000)]
    counts = Counter(drawn)
    wanted = sorted({packed for packed, _, _ in drawn}, key=hashed)[:50]
    whole = table(drawn).table()
    assert not whole.whole
    assert {row.tobytes() for row in whole.packed} == set(wanted)
    columns = (whole.packed, whole.labels.tolist(), whole.predictions.tolist(), whole.counts.tolist())
    for packed, label, prediction, count in zip(*columns, strict=True):
        assert count == counts[packed.tobytes(), label, prediction]
    assert whole.distinct == pytest.approx(len({packed for packed, _, _ in drawn}), rel=0.4), "an estimate"
    images = np.bincount([label for _, label, _ in drawn])
    unkept = next(packed for packed, _, _ in drawn if packed not in wanted)
    shares = whole.share(np.stack([np.frombuffer(p, np.uint8) for p in (wanted[0], unkept)]), np.array([0, 0]), images)
    assert shares[0] == sum(n for key, n in counts.items() if key[:2] == (wanted[0], 0)) / images[0]
    assert np.isnan(shares[1]), "how common it is, nobody knows"

    backwards, halves = table(drawn[::-1]).table(), table(drawn[:1000])
    halves.join(table(drawn[1000:]).table())
    few = table(drawn[:20])
    few.join(table(drawn[20:]).table())
    for found in (backwards, halves.table(), few.table()):
        for field in dataclasses.fields(Taken):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(whole, field.name), strict=True)


def test_a_survey_of_a_sample_of_paths_says_so_and_comes_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "MOST_BYTES", 3 * 401)
    found = survey(Toy(), loader((5, 5)))
    assert found.taken is not None
    assert (found.taken.whole, len(found.top_paths)) == (False, 3)
    assert found.to_json()["paths"]["whole"] is False
    again = Survey.load(found.save(tmp_path))
    assert (again.distinct_paths, again.top_paths) == (found.distinct_paths, found.top_paths)
    assert again.taken is not None
    assert not again.taken.whole


def test_energies_that_are_not_finite_stop_the_survey_and_name_the_site() -> None:
    class Broken(Toy):
        def forward(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
            y, trace = super().forward(x, path)
            made: Decision = trace["layer2.0"]
            energies = torch.full_like(made.z, float("nan"))
            return y, {**trace, "layer2.0": dataclasses.replace(made, response={ENERGIES: energies})}

    with pytest.raises(RunError, match=r"batch 0: energies of site 'layer2.0' are not finite"):
        survey(Broken(), loader())


class Wide(nn.Module):
    """Images are the bits that they open, and those of the first classes their scores."""

    def __init__(self, units: int) -> None:
        super().__init__()
        made = tuple(Unit("wide", index, Cost(1, 1), "filters") for index in range(units))
        self.layout = Layout(made, Cost(1, 1), Cost(units + 1, 1), "Wide")

    def forward(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
        return x[:, :10].float(), {"wide": Decision(x, x.float())}


def test_memory_hardly_grows_with_the_images() -> None:
    units = 2000

    def images(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(count // 100):
            yield torch.rand(100, units, generator=generator) < 0.5, torch.arange(100) % 10

    def peak(count: int) -> int:
        tracemalloc.start()
        found = survey(Wide(units), images(count), keep_paths=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.distinct_paths == count
        return most

    each = (peak(2000) - peak(1000)) / 1000
    assert each < 5 * (units / 8 + 200), f"{each:.0f} bytes for each image: its bits a few times, and its row"


@pytest.mark.parametrize("keep", [False, True, 3])
def test_images_do_not_count_twice_where_that_can_be_known(keep: bool | int) -> None:
    one, again, other = (survey(Toy(), loader(), keep_paths=keep, numbers=range(n, n + 10)) for n in (0, 0, 10))
    for others in ([one], [other, one], [other, other]):
        with pytest.raises(DataError, match="given twice"):
            one.merge(*others)
    assert one.merge(other).images.sum() == 20
    if keep:
        with pytest.raises(DataError, match="two images have the number"):
            one.merge(other, again)
