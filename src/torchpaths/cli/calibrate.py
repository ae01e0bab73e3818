"""``torchpaths cut RUN --calibrate``: thresholds at which gates open as often as they were trained to, in a run."""

from __future__ import annotations

import itertools
import pathlib

from torchpaths.calibrating import calibrate
from torchpaths.cli import OK
from torchpaths.cli.options import OfRun, emit, speaking
from torchpaths.data import Loader
from torchpaths.errors import RunError
from torchpaths.files.fresh import check_free
from torchpaths.surveys import survey
from torchpaths.train.evaluate import images_for
from torchpaths.train.sampled import Watched
from torchpaths.train.thresholds import save_thresholds

IMAGES = 2048
"""Training images by which thresholds are set."""


def set_rates(options: OfRun, out: pathlib.Path, force: bool) -> int:
    """Look at training images, set, look again, write and print. Returns the exit status, see `torchpaths.cli.main`.

    Raises:
        RunError: for a run without gates that have targets.
    """
    check_free(out, force)
    with speaking(options.json) as console:
        opened = options.open()
        method, net = opened.recipe.method, opened.net
        targets = {} if method is None else method.target_rates(net)
        if not targets:
            raise RunError(f"the run {options.run} has no gates that are trained towards a rate, so none to calibrate.")
        images = images_for(opened, data=options.data, split="train", skip_corrupt=options.skip_corrupt)
        loader = Loader(images, 256, shuffle=True, mean=opened.mean, std=opened.std)
        some = list(itertools.islice(loader, -(-IMAGES // 256)))
        rates, accuracies = [], []
        for again in (False, True):
            if again:
                thresholds = calibrate(net, some, targets)
            watched = Watched(net)
            accuracies.append(survey(watched, some).accuracy)
            rates.append(watched.told(method)["gate_rates"])
        save_thresholds(net, opened.folder, out, force)
        before, after = (rate["argmax"] for rate in rates)
        target, drawn = rates[0]["target"], rates[0]["sampled"]
        was, now = accuracies
        shown = (
            f"{len(thresholds)} gates, on {sum(len(x) for x, _ in some):,} training images",
            f"open for {before:.1%} of images before, {after:.1%} now; drawn {drawn:.1%}, target {target:.1%}",
            f"accuracy on these {was:.2%} before, {now:.2%} now{_less(was, now, before, after)}",
            f"wrote {out}",
        )
        console.print("\n".join(shown), soft_wrap=True)
    if options.json:
        told = {"before": rates[0], "after": rates[1], "accuracy": accuracies, "thresholds": thresholds}
        emit({"folder": str(options.run), "out": str(out), **told})
    return OK


def _less(was: float, now: float, before: float, after: float) -> str:
    """A word where accuracy fell."""
    if now >= was:
        return ""
    return ": less, for fewer blocks" if after < before else ": less, though more is open; keep the run as it was"
