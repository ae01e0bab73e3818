"""``torchpaths cut RUN``: a run's network along one path, written as a plain network that needs no torchpaths; or
without its silent filters, as a run, see `torchpaths.cli.silent`."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Annotated, Any

from tyro import conf

from torchpaths.chosen import set_up
from torchpaths.cli import OK
from torchpaths.cli.calibrate import set_rates
from torchpaths.cli.choice import Chosen, OfPath, budget_of, by_images, choose, means
from torchpaths.cli.options import emit, parse, refuse, speaking
from torchpaths.cli.silent import remove_silent
from torchpaths.cli.tables import count
from torchpaths.cuts import Spec, save_cut
from torchpaths.errors import BudgetError, DataError, RouteError
from torchpaths.files.document import read_document
from torchpaths.files.fresh import check_free
from torchpaths.path import Path
from torchpaths.schema import convert, reading
from torchpaths.train.cut_folder import original
from torchpaths.train.folder import Run
from torchpaths.train.thresholds import save_thresholds


@dataclass(frozen=True)
class Options(OfPath):
    """What the verb takes."""

    out: pathlib.Path = dataclasses.field(kw_only=True)
    """Folder for the cut network, new or empty."""
    force: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Replace a network that is there."""
    calibrate: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Or only set the thresholds of gates so that each opens as often as it was trained to, on training images. What
    comes out is a run, whose network still decides."""
    silent: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Or only remove the filters that no training image opens (of --split validation, where that is given), and the
    gates of those that every one opens. What comes out is a run, whose network still decides."""


def run(arguments: list[str]) -> int:
    """Choose, cut, write and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = (
        "A run's network along one path as a plain network: weights, description and a loader without torchpaths. At a "
        "point of its front at which gates decide: a run whose gates open at that threshold."
    )
    options = parse(Options, arguments, "cut", about)
    alone = [f"--{name}" for name in ("silent", "calibrate") if getattr(options, name)]
    budget_of(options, *alone)
    if options.silent:
        if options.split == "test":
            refuse(arguments, ("split",), "what is kept is not to be chosen on test images; give train or validation.")
        return remove_silent(options, options.out, options.force)
    if options.calibrate:
        refuse(arguments, ("split",), "thresholds are set on training images; leave it out.")
        return set_rates(options, options.out, options.force)
    if not means(options):
        raise BudgetError(
            "nothing says what to keep; give --path FILE, --budget-macs 0.6 or --label CLASS, or --classes CLASS of a "
            "coded network, --point of a front, or --silent of a run with gated filters."
        )
    if not by_images(options):
        why = "no image is looked at where a path, a front or classes say what to keep; leave it out."
        refuse(arguments, ("data", "split", "skip-corrupt"), why)
    check_free(options.out, options.force)
    with speaking(options.json) as console:
        opened = options.open()
        chosen = choose(options, opened, fixed=True)
        assert chosen is not None
        if chosen.whole is None:
            told, rows = _kept_deciding(options, opened, chosen)
        else:
            spec = save_cut(**original(opened, chosen.whole, chosen.keep), folder=options.out, force=options.force)
            told, rows = spec.to_json(), _rows(spec, chosen.whole)
        rows = [f"chosen by {chosen.by}", *rows, *_threshold(options, chosen.keep), f"wrote {options.out}"]
        console.print("\n".join(rows), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), "out": str(options.out), **told})
    return OK


def _kept_deciding(options: Options, opened: Run, chosen: Chosen) -> tuple[dict[str, Any], list[str]]:
    """Write a point at which gates decide, as a run; what to say of it, as JSON data and in words.

    Raises:
        RouteError: for one that also opens and closes what nothing decides, or of a cut network.
    """
    point = chosen.what
    if isinstance(point, Path) or point.path is not None or opened.spec is not None:
        raise RouteError(
            "at this point gates decide beside a path, which no run can hold; take it along: torchpaths export "
            "--point, or choose a path for all images."
        )
    net, _ = set_up(opened.net, point)
    save_thresholds(net, opened.folder, options.out, options.force)
    macs = point.macs / opened.net.layout.plain.macs
    row = f"{opened.recipe.model}, {chosen.title}: {point.accuracy:.2%}, {macs:.1%} of"
    return {"threshold": point.threshold}, [f"{row} the MACs, on the images of its front", "a run, whose gates decide"]


def _threshold(options: Options, keep: tuple[int, ...] | None) -> list[str]:
    """From which score on a single class's classifier says yes, in words, if the run was decoded."""
    if keep is None or len(keep) > 1:
        return []
    file = options.run / "decode.json"
    if not file.is_file():
        return [f"from which score on it says yes is told by: torchpaths decode {options.run}"]
    report = read_document(file, "torchpaths.decode/1", "decode report", f"torchpaths decode {options.run}")
    with reading(file, DataError, "it was edited or cut short; make it anew with torchpaths decode"):
        threshold: float = convert(report["classifiers"]["paths"]["thresholds"][keep[0]], float, "thresholds")
    return [f"it says yes from a score of {threshold:.3f} on, the best F1 on training images ({file})"]


def _rows(spec: Spec, path: Path) -> list[str]:
    """What came out, in words."""
    units = [unit for opened in path.values() for unit in opened]
    shares = {"MACs": (spec.cut.macs, spec.plain.macs), "parameters": (spec.cut.params, spec.plain.params)}
    return [
        f"{spec.source}: {sum(units)} of {len(units)} units kept",
        *(f"{count(cut)} of {count(plain)} {what} ({cut / plain:.1%})" for what, (cut, plain) in shares.items()),
        f"made by {spec.build}" + (", edited" if spec.edits else ""),
    ]
