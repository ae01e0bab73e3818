"""Figures of what blocks add: how much, and whether it goes down the loss (AdaptiveDepth, Eq. 3 and 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from torchpaths.depth.residuals import BlockMean
from torchpaths.errors import DataError
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEEP,
    FLOW,
    INK,
    RULE,
    SMALL,
    SOFT,
    TINT,
    add_axes,
    heading,
    in_key,
    new_figure,
    room,
    shorten,
    styled,
    text_width,
)

NAME = 5.5
"""Size of the blocks' names in points."""

PLAIN = "plain"
"""What the plain network is called, which has a colour of its own in the figures of depths."""

_MARKS = ((DEEP, "o"), (FLOW, "s"), (SOFT, "D"), (INK, "^"))
_STEP, _GAP = 0.13, 0.17
"""Inches between the marks of a block, and between blocks."""


def draw_residual_sizes(found: Mapping[str, Sequence[BlockMean]], title: str) -> Figure:
    """How large each block's residual is (Eq. 3), a mark for each network.

    Args:
        found: name of a network ("plain", "super-net", "base-net") -> what `residual_sizes` gave; four at most beside
            "plain".
        title: what was measured on what.

    Raises:
        DataError: for nothing to draw, or too many networks.
    """
    note = f"length of its residual beside that of the shortcut it is added to, {_over(found)}"
    return _by_block(found, f"What each block adds: {title}", note, "|F(h)| / |shortcut|", 0.0)


def draw_gradient_cosines(found: Mapping[str, Sequence[BlockMean]], title: str) -> Figure:
    """Whether each block's residual goes down the loss (Eq. 7), a mark for each network.

    Args:
        found: name of a network -> what `gradient_cosines` gave; as for `draw_residual_sizes`.
        title: what was measured on what.

    Raises:
        DataError: for nothing to draw, or too many networks.
    """
    note = f"cosine of its residual and −∂L/∂h, 1: a step of gradient descent, {_over(found)}"
    return _by_block(found, f"Whether each block goes down the loss: {title}", note, "cosine of F(h) and −∂L/∂h", None)


def _over(found: Mapping[str, Sequence[BlockMean]]) -> str:
    most = max((one.images for blocks in found.values() for one in blocks), default=0)
    return f"mean ± deviation over {most:,} images"


@styled
def _by_block(
    found: Mapping[str, Sequence[BlockMean]], title: str, note: str, label: str, lowest: float | None
) -> Figure:
    blocks = _order(found)
    if not blocks:
        raise DataError("no blocks to draw: no network of these has a residual block that ran.")
    others = [name for name in found if name != PLAIN]
    if len(others) > len(_MARKS):
        raise DataError(f"{len(others)} networks beside the plain one; {len(_MARKS)} can be told apart.")
    looks = dict(zip(others, _MARKS, strict=False)) | {PLAIN: (ACCENT, "v")}
    skippable = {one.block for own in found.values() for one in own if one.skippable}
    each = _STEP * (len(found) - 1) + _GAP
    names = [shorten(block, 32) for block in blocks]
    left, bottom, height = 0.72, 0.2 + text_width(names, NAME), 2.4
    wide = max(each * len(blocks), room(title, note) - left - 0.2)
    figure = new_figure(left + wide + 0.2, bottom + height + 0.84)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    missing: dict[tuple[int, str], list[float]] = {}
    for i, (name, own) in enumerate(found.items()):
        colour, marker = looks[name]
        aside = (i - (len(found) - 1) / 2) * _STEP / each
        shown = [(blocks.index(one.block) + aside, one) for one in own if one.mean is not None]
        across, values = [x for x, _ in shown], [one.mean or 0.0 for _, one in shown]
        spread = [one.deviation or 0.0 for _, one in shown]
        axes.errorbar(across, values, spread, ls="", color=colour, lw=0.8, alpha=0.55, zorder=2)
        axes.plot(across, values, marker, color=colour, ms=4.5, ls="", zorder=3, label=in_key(name), clip_on=False)
        for one in own:
            if one.mean is None:
                at = blocks.index(one.block)
                missing.setdefault((at, one.missing), []).append(at + aside)
    for (_, why), positions in missing.items():
        axes.text(
            float(np.mean(positions)), 0.97, why, size=NAME, color=SOFT, rotation=90, ha="center", va="top",
            transform=axes.get_xaxis_transform(), clip_on=True,
        )  # fmt: skip
    for at, block in enumerate(blocks):
        if block in skippable:
            axes.axvspan(at - 0.5, at + 0.5, color=TINT, alpha=0.55, lw=0, zorder=0)
    axes.axhline(0, color=INK, lw=0.8, zorder=1)
    axes.set_ylim(bottom=lowest)
    axes.set_xlim(-0.5, len(blocks) - 0.5)
    axes.set_xticks(range(len(blocks)), names, size=NAME, rotation=90)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(label)
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    handles, _ = axes.get_legend_handles_labels()
    if skippable:
        handles.append(Patch(color=TINT, alpha=0.55, lw=0, label="can be left out"))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(handles), frameon=False, fontsize=SMALL,
        handletextpad=0.4, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _order(found: Mapping[str, Sequence[BlockMean]]) -> list[str]:
    """All blocks, in the order of the network that has the most, those that only others have behind them."""
    longest = sorted(found.values(), key=len, reverse=True)
    return list(dict.fromkeys(one.block for own in longest for one in own))
