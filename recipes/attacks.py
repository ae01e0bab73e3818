"""The record ``records/attacks``: networks of all four methods under attack on CIFAR-10, and what their paths tell.

    python recipes/attacks.py --data DIR/cifar10 --foreign DIR/cifar100

attacks networks of other records, each in about twenty minutes of one core; what is there already stays.
``--filters RUN`` adds a run of `cifar10_gated_filters` (its record holds no weights); its norms' statistics are
measured anew on training images first, as there.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from PIL import Image

import torchpaths as tp
from torchpaths.attacks import Plan, Sample, attack_report
from torchpaths.data import Loader, open_data
from torchpaths.files.write import write_json
from torchpaths.train.evaluate import open_run
from torchpaths.train.folder import Run, read_json
from torchpaths.train.recipe import Json

ROOT = pathlib.Path(__file__).resolve().parents[1] / "records"
LEVELS = 255
PLAN = Plan(
    strengths=tuple(n / LEVELS for n in (0, 2, 4, 8, 12)),
    detected=(2 / LEVELS, 4 / LEVELS, 8 / LEVELS),
    strength=8 / LEVELS,
    steps=10,
    weights=(0.1, 10.0),
)
FIGURES = {
    "gated": ("attack-accuracy", "attack-detection", "attack-rates", "attack-crossing"),
    "filters": ("attack-crossing", "attack-paths-to"),
    "coded": ("attack-detection",),
    "depth": ("asked-again",),
}


NOTES = """
## What this says

Of one seed and few images, so within the intervals:

- **Gates and depth make a network no safer** than its plain twin under FGSM. Gates that draw do, 54 % beside 31 % at
  2/255, for three points of clean accuracy: the noise protects, as ConvNet-AIG's authors say, not the paths. The coded
  network is somewhat safer than its twin, 27 % beside 18 %.
- JPEG undoes more of a weak attack than anything of a network does, and costs 11 to 14 points of clean accuracy.
- **Paths of gates tell less than scores** of FGSM (AUROC 0.56 beside 0.70 at 2/255) and of other classes (0.60 beside
  0.83); those of the coded network as much of FGSM (0.70 beside 0.69), less of other classes (0.76 beside 0.85). Where
  images have no say in the path, the disagreement of depths is the best there is against weak FGSM, 0.81 beside 0.70.
- Against PGD, which makes a network surer than it is of clean images, scores are far below chance (0.00 to 0.07). Paths
  are not, but at 0.62 at best (gates) they tell too little to rely on.
- Coded, images of common paths are right more often (94 and 97 %) than those of rare ones (79 %).
- **An attacker who knows of paths defeats every score of paths**: all images fooled, AUROC below 0.5. Softmax and
  energy are defeated with them (at most 0.40), but with gated filters (0.71 and 0.76).
- Gated filters, taught, at 90 % of the MACs: under FGSM they are no safer by their gates, the attack goes around them
  as well as through them (34.4 % at 2/255), and their paths tell of a weak attack nothing (0.51), of one of 8/255 as
  much as softmax (0.77).
- Confidence of a smaller network needs a temperature of its own (base-net: ECE 4 % with it, 18 % with the super-net's);
  temperatures by path are not worth having with so few images.
- Asking suspicious images again with more depth gains 3.0 points over asking as many by chance, told by softmax. With
  these gates it gains nothing: everything open is worse than what they choose.
"""


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        label: in tables.
        run: its folder in the records; None for one that is given.
        plain: its plain twin's.
    """

    label: str
    run: str | None
    plain: str | None


ENTRIES = {
    "depth": Entry("adaptive depth, ResNet-20", "cifar10_anytime/adaptive", "cifar10_anytime/plain"),
    "gated": Entry("gated blocks, ResNet-56, target 0.7", "cifar10_resnet56/gated-0.7", "cifar10_resnet56/plain"),
    "coded": Entry("coded, ResNeXt-20", "cifar10_coded_paths/coded", "cifar10_coded_paths/plain"),
    "filters": Entry("gated filters, ResNet-56", None, None),
}


@dataclass(frozen=True)
class Options:
    """What to attack.

    Attributes:
        data: folder with CIFAR-10's train.parquet and test.parquet.
        foreign: one with CIFAR-100's.
        filters: a run of gated filters.
        only: of the networks, these.
        train: training images, from which is learnt what is common.
        test: images to attack.
        mimics: of them, for the attacker who matches paths.
        record: where the record goes.
    """

    data: pathlib.Path
    foreign: pathlib.Path
    filters: pathlib.Path | None = None
    only: tuple[str, ...] = tuple(ENTRIES)
    train: int = 5000
    test: int = 1000
    mimics: int = 200
    record: pathlib.Path = ROOT / "attacks"


def main(options: Options) -> None:
    for name in options.only:
        entry = ENTRIES[name]
        folder = options.filters if entry.run is None else ROOT / entry.run
        if folder is not None and not (options.record / f"{name}.json").is_file():
            attack(name, folder, None if entry.plain is None else ROOT / entry.plain, options)
    found = {n: read_json(options.record / f"{n}.json") for n in ENTRIES if (options.record / f"{n}.json").is_file()}
    (options.record / "README.md").write_text("\n".join(readme(found)))


def attack(name: str, folder: pathlib.Path, plain: pathlib.Path | None, options: Options) -> None:
    """One network's report and figures."""
    run, twin = open_run(folder), None if plain is None else open_run(plain).net
    for net in (run.net, twin):  # a fifth less time
        if net is not None:
            net.to(memory_format=torch.channels_last)
    train, test = (open_data(options.data, split) for split in ("train", "test"))
    if name == "filters":
        tp.update_bn(run.net, normalised(run, train))
    start = time.process_time()
    with tempfile.TemporaryDirectory() as drawn:
        report = attack_report(
            run.net,
            Sample.of(train, options.train),
            Sample.of(test, options.test),
            run.mean,
            run.std,
            plain=twin,
            foreign=Sample.of(open_data(options.foreign, "test"), options.test),
            others={} if run.recipe.method is None else run.recipe.method.paths(run.net),
            plan=dataclasses.replace(PLAN, mimics=options.mimics),
            classes=run.classes,
            title=f"{run.recipe.model} on CIFAR-10",
            folder=drawn,
            tell=lambda text: print(f"{name}: {text}", flush=True),
        )
        report.pop("files")
        report |= {"seconds": time.process_time() - start, "torch": torch.__version__}
        for figure in FIGURES[name]:
            shrink(pathlib.Path(drawn) / f"{figure}.png", options.record / f"{name}-{figure}.png")
    write_json(options.record / f"{name}.json", report)


def normalised(run: Run, images: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """5,000 training images in ten batches, augmented as in training."""
    loader = Loader(
        images, 500, augment=run.recipe.augment, shuffle=True, mean=run.mean, std=run.std, side=run.recipe.size
    )
    for number, batch in enumerate(loader):
        if number == 10:
            return
        yield batch


def shrink(file: pathlib.Path, to: pathlib.Path) -> None:
    """A figure in fewer pixels and colours."""
    to.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(file).convert("RGB")
    small = image.resize((round(image.width * 0.6), round(image.height * 0.6)), Image.Resampling.LANCZOS)
    small.quantize(48).save(to, optimize=True)


def readme(found: dict[str, Json]) -> list[str]:
    """The record's page: a part for each network."""
    first = next(iter(found.values()))
    plan = first["plan"]
    weights = ", ".join(f"{weight:g}" for weight in plan["weights"])
    lines = [
        "# attacks",
        "",
        f"{first['images']['test']:,} test images of CIFAR-10, drawn by chance, under attack; what is common is learnt "
        f"from {first['images']['train']:,} training images; one seed. FGSM; PGD of {plan['steps']} steps; an attacker "
        f"who also matches a clean path of another class, {plan['mimic_steps']} steps, {plan['mimics']} images, "
        f"weights {weights}, of which for each score the strongest is given. JPEG: quality 75, after the attack. In "
        "brackets 95 % intervals. How: "
        "[docs/attack.md](../../docs/attack.md).",
    ]
    for name, report in found.items():
        lines += ["", f"## {ENTRIES[name].label}", "", *accuracies(report), "", *detections(report), *trust(report)]
        lines += [line for figure in FIGURES[name] for line in ("", f"![{figure}]({name}-{figure}.png)")]
    missing = [entry.label for name, entry in ENTRIES.items() if name not in found]
    lines += [NOTES.rstrip()]
    lines += ["", f"**Unfinished**: not yet attacked are {'; '.join(missing)}."] if missing else []
    return [*lines, ""]


def accuracies(report: Json) -> list[str]:
    """Accuracy against strength."""
    strengths = [row["strength"] for row in report["curves"][0]["as_attacked"]]
    lines = [f"| accuracy under FGSM | {' | '.join(strengths)} |", f"|---|{'---|' * len(strengths)}"]
    for found in report["curves"]:
        for what, key in (("", "as_attacked"), (", JPEG", "jpeg")):
            if key in found:
                lines.append(f"| {found['name']}{what} | {' | '.join(map(share, found[key]))} |")
    return lines


def share(row: Json) -> str:
    low, high = row["interval"]
    return f"{row['accuracy']:.1%} ({100 * low:.0f} to {100 * high:.0f})"


def detections(report: Json) -> list[str]:
    """AUROC and FPR95 of every score for every attack, the strongest of those who match paths."""
    rows = list(report["detection"])
    if report["strongest"]:
        mimics = {row["name"]: row for row in report["mimicry"]}
        scores = {score: mimics[name]["scores"][score] for score, name in report["strongest"].items()}
        fooled = max(row["fooled"] for row in report["mimicry"])
        images = report["mimicry"][0]["images"]
        rows.append({"name": "matched path, the strongest", "fooled": fooled, "images": images, "scores": scores})
    names = list(dict.fromkeys(score for row in rows for score in row["scores"]))
    lines = [f"| AUROC, FPR95 | fooled | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for row in rows:
        cells = [told(row["scores"][name]) if name in row["scores"] else "" for name in names]
        lines.append(f"| {row['name']} | {row['fooled']} of {row['images']} | {' | '.join(cells)} |")
    return lines


def told(score: Json) -> str:
    low, high = score["auroc_interval"]
    return f"{score['auroc']:.2f} ({low:.2f} to {high:.2f}), {score['fpr95']:.0%}"


def trust(report: Json) -> list[str]:
    """Calibration, and asking again."""
    lines = []
    for title, key, ways in (
        ("budget", "by_budget", {"unscaled": "as it is", "first": "first's temperature", "own": "own temperature"}),
        ("paths", "by_path", {"unscaled": "as it is", "one": "one temperature", "path": "temperature by path"}),
    ):
        if report[key]:
            lines += ["", f"| {title} | images | accuracy | {' | '.join(f'ECE, {way}' for way in ways.values())} |"]
            lines += [f"|---|---|---|{'---|' * len(ways)}"]
            for row in report[key]:
                errors = " | ".join(f"{row[way]['ece']:.1%}" for way in ways)
                lines.append(f"| {row['name']} | {row['images']} | {row['accuracy']:.1%} | {errors} |")
    if report["selective"]:
        gains = ", ".join(f"{name} {100 * found['gain']:+.2f}" for name, found in report["selective"].items())
        two = report.get("asked")  # records of before always asked at the largest budget
        where = "at the largest budget" if two is None else f"({two['first']}, then {two['again']})"
        lines += ["", f"Asking suspicious images again {where}, points of accuracy above chance: {gains}."]
    return lines


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
