"""One look for all figures: warm paper, one sequential blue, one rust accent, sizes in inches, and files that repeat.

Figures are made through matplotlib's object-oriented interface (no pyplot, no global state), in a font that matplotlib
ships, so that they come out the same on every machine. Text stays text in SVG.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar
from unicodedata import bidirectional

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgba, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

from torchpaths.files.write import disk, write_file
from torchpaths.text import visible

PAPER, INK, SOFT = "#fcfbf8", "#1b2430", "#5b6673"
DEEP, FLOW, PALE = "#103456", "#4f7ea3", "#a9c1d4"
ACCENT, TINT = "#bf4408", "#f6d9c6"
RULE, HAIRLINE = "#dedad1", "#c4c0b6"
RATE_MAP = LinearSegmentedColormap.from_list("torchpaths-rate", ["#faf8f3", "#ccdae3", "#89abc4", "#427399", "#103456"])
DEPTH_MAP = LinearSegmentedColormap.from_list("torchpaths-depth", ["#a9c1d4", "#4f7ea3", "#103456"])

HEADING = "heading"
"""What marks a heading, which a paper's figures do without: its caption says that."""

Look: TypeAlias = Literal["house", "paper"]
"""``house`` as above, in PNG and SVG; ``paper`` white, without heading, cropped, in PDF."""

_LOOK: ContextVar[Look] = ContextVar("torchpaths_look", default="house")

TITLE, TEXT, SMALL = 10.5, 8.0, 7.0

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.edgecolor": "none",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "hatch.linewidth": 0.5,
    "hatch.color": HAIRLINE,
    "svg.fonttype": "none",
    "svg.hashsalt": "torchpaths",
    "path.simplify": False,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a function under the house style, whatever the caller's matplotlib settings are."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(), warnings.catch_warnings():
            # A line for each character and each look at it; `save` says so once.
            warnings.filterwarnings("ignore", message=r"Glyph \d+|Matplotlib currently does not support")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with a canvas that can measure text."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float, **kwargs: Any) -> Axes:
    """Axes placed in inches from the figure's lower left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h), **kwargs)


def up_to_all(axes: Axes) -> None:
    """Let an axis of accuracies in percent end at 100: more there is none. Marks there are not cut in half."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, min(high, 100.0))
    for line in axes.lines:
        line.set_clip_on(line.get_linestyle() not in ("None", ""))


def heading(figure: Figure, left: float, title: str, note: str = "") -> None:
    """A title, and a line in softer ink under it, at the top of a figure; ``left`` in inches."""
    title, note = visible(title), visible(note)
    w, h = figure.get_size_inches()
    figure.text(left / w, 1 - 0.12 / h, title, size=TITLE, weight="bold", va="top", gid=HEADING)
    if note:
        figure.text(left / w, 1 - 0.36 / h, note, size=TEXT, color=SOFT, va="top", gid=HEADING)


@styled
def text_width(texts: Sequence[str], size: float, weight: str = "normal") -> float:
    """Width in inches of the widest of some texts, as they are drawn."""
    figure = new_figure(1, 1)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    drawn = [figure.text(0, 0, visible(text, keep="\n"), size=size, weight=weight) for text in texts]
    return max((text.get_window_extent(renderer).width for text in drawn), default=0.0) / figure.dpi


def shorten(name: str, most: int = 22) -> str:
    """A name as it is drawn: long ones cut in the middle, where names of data sets differ least."""
    name = visible(name)
    if len(name) <= most:
        return name
    keep = most - 1
    return f"{name[: (keep + 1) // 2]}…{name[len(name) - keep // 2 :]}"


def in_key(name: str) -> str:
    """A name as a legend shows it: those that begin with an underscore or are empty matplotlib leaves out, unless
    something stands before it, here the thinnest of spaces."""
    return f"\u200a{name}" if not name or name.startswith("_") else name


def spread_apart(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions of labels moved as little as needed to stand ``gap`` apart, in the same order, within low to high.

    Neighbours that would touch are merged into a block centred on their mean, as in isotonic regression. Where there is
    no room for all, the gap shrinks.
    """
    if not positions:
        return []
    gap = min(gap, (high - low) / max(len(positions) - 1, 1))
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[list[float]] = []  # [sum of positions less offsets, members]
    for rank, i in enumerate(order):
        blocks.append([positions[i] - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    bases = [total / members for total, members in blocks for _ in range(int(members))]
    top = high - (len(positions) - 1) * gap
    placed = [0.0] * len(positions)
    for rank, i in enumerate(order):
        placed[i] = min(max(bases[rank], low), top) + rank * gap
    return placed


@contextlib.contextmanager
def drawn_as(look: Look) -> Iterator[None]:
    """Let `save` write figures in another look, meanwhile."""
    before = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(before)


def _as_in_papers(figure: Figure) -> None:
    """Take headings off, and make what is of the house's paper white."""
    for text in figure.findobj(lambda artist: artist.get_gid() == HEADING):
        text.set_visible(False)
    house = to_rgba(PAPER)
    for artist in figure.findobj():
        for name in ("facecolor", "edgecolor", "markerfacecolor", "markeredgecolor", "color"):
            now = getattr(artist, f"get_{name}", None)
            if now is not None and _is(now(), house):
                getattr(artist, f"set_{name}")("white")


def _is(colour: Any, other: tuple[float, float, float, float]) -> bool:
    """Whether a colour, as an artist gives it, is this one."""
    try:
        found = to_rgba_array(colour)
    except (TypeError, ValueError):  # no colour but a map of them
        return False
    return len(found) > 0 and bool(np.allclose(found, other))


KINDS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""The kinds of files that figures are written as, with what keeps them the same each time."""


@styled
def save(
    figure: Figure, stem: pathlib.Path | str, dpi: int = 200, kinds: Sequence[str] | None = None
) -> tuple[pathlib.Path, ...]:
    """Write ``stem.png`` and ``stem.svg`` and return their paths; in the look of papers (`drawn_as`) ``stem.pdf``.

    The same figure gives the same bytes each time.

    Args:
        figure: any.
        stem: the files without their endings.
        dpi: of the PNG.
        kinds: other files than these, of `KINDS`.

    Raises:
        RunError: if the disk is full or refuses; a figure of that name stays as it was.
    """
    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text(), keep="\n"))
    stem = pathlib.Path(stem)
    written = []
    paper = _LOOK.get() == "paper"
    if paper:
        _as_in_papers(figure)
    more: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.04, "facecolor": "white"} if paper else {}
    for kind in kinds or (("pdf",) if paper else ("png", "svg")):
        data = io.BytesIO()
        figure.savefig(data, format=kind, dpi=dpi, metadata=KINDS[kind], **more)
        file = stem.with_name(f"{stem.name}.{kind}")
        with disk(file, "what was there before is intact"):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, data.getvalue())
        written.append(file)
    _mention_signs(figure, written[0])
    return tuple(written)


def _mention_signs(figure: Figure, file: pathlib.Path) -> None:
    """Warns of letters that the picture cannot show as they are."""
    font = get_font(findfont("DejaVu Sans"))
    letters = {c for text in figure.findobj(Text) for c in text.get_text() if not c.isspace()}
    wrong = sorted(c for c in letters if not font.get_char_index(ord(c)) or bidirectional(c) in ("R", "AL"))
    if wrong:
        warnings.warn(
            f"{file}: letters that its font lacks are boxes, and those that run from right to left stand the other way "
            f"round ({''.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''}); the SVG file beside it shows them.",
            stacklevel=4,
        )


def room(title: str, note: str) -> float:
    """How wide a figure must be for its heading, in inches."""
    return 0.3 + max(text_width([title], TITLE, "bold"), text_width([note], TEXT))
