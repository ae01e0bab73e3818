"""Decisions of a layer as points in a plane, by t-SNE (network decoupling, section 4.3, figure 5): do images of a class
take the same filters?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.errors import DataError, RunError
from torchpaths.filtering.sites import Batches, came, chosen, passes
from torchpaths.routed import Routed

LAYERS = 3
"""Layers that are shown where none are named, as in the paper."""

RICH = 10
"""They are chosen among those of at least so many different decisions, if there are enough."""


@dataclass(frozen=True, eq=False)
class Points:
    """One layer's images.

    Attributes:
        at: float32 ``[image, 2]``; the axes mean nothing, near points have like decisions.
        labels: int64 ``[image]``.
        decision: int64 ``[image]``, the number of its decision: images of one number decide alike and lie on one spot.
    """

    at: NDArray[np.float32]
    labels: NDArray[np.int64]
    decision: NDArray[np.int64]

    @property
    def distinct(self) -> int:
        """How many different decisions there are."""
        return int(self.decision.max()) + 1


def check_embedded(images: int) -> None:
    """Raises `DataError` for a number of images that t-SNE cannot embed."""
    if images < 4:
        raise DataError(f"t-SNE of {images} images: it needs at least 4.")


def embed(
    net: Routed,
    loader: Batches,
    sites: Iterable[str] | None = None,
    *,
    images: int = 1000,
    perplexity: float = 30.0,
    seed: int = 0,
    progress: str | None = None,
) -> dict[str, Points]:
    """Embed the decisions of some layers.

    Kept are the decisions of the first images, a byte for each filter. Each different decision is embedded once,
    however many images take it: t-SNE would tear a crowd of equal ones to pieces.

    Args:
        net: a network in any mode.
        loader: labelled batches; the first images of it are taken, so classes should come mixed.
        sites: names of layers; None: the first, the middle and the last of those that decide differently for different
            images, see `RICH`.
        images: how many.
        perplexity: about how many neighbours a point has; lowered where there are few decisions.
        seed: of the random start.
        progress: name of a progress bar on the standard error stream; None for none.

    Returns:
        Site -> points, in order of execution. Layers that fewer than four images came to, or that decide alike for all,
        are left out: there is nothing to embed.

    Raises:
        RouteError: for a network without filters.
        PathError: for a name that is no site of filters.
        DataError: for no images, or a number of images that cannot be embedded.
        RunError: for scores that are not finite, or if scikit-learn is not installed.
    """
    check_embedded(images)
    tsne = _tsne()
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in chosen(net, sites)}
    seen = 0
    for _, labels, _, trace in passes(net, loader, progress=progress):
        take = min(len(labels), images - seen)
        for name, parts in kept.items():
            if name in trace:
                here = came(trace[name])[:take].nonzero()[:, 0]
                parts.append((trace[name].open[here].cpu(), labels[here.cpu()]))
        seen += take
        if seen == images:
            break
    joined = {
        name: (torch.cat([z for z, _ in parts]), torch.cat([y for _, y in parts]))
        for name, parts in kept.items()
        if parts
    }
    different = {name: torch.unique(z, dim=0, return_inverse=True) for name, (z, _) in joined.items() if len(z) >= 4}
    names = [name for name, (z, _) in different.items() if len(z) > 1]
    rich = [name for name in names if len(different[name][0]) >= RICH]
    if sites is None and len(rich) >= LAYERS:
        names = rich
    if sites is None and len(names) > LAYERS:
        names = [names[i] for i in (0, len(names) // 2, -1)]
    found = {}
    for name in names:
        z, decision = different[name]
        near = min(perplexity, (len(z) - 1) / 3)
        method = "exact" if len(z) < 100 else "barnes_hut"
        made = tsne(2, perplexity=near, init="random", random_state=seed, method=method, n_jobs=1)
        at = np.asarray(made.fit_transform(z.float().numpy()), np.float32)
        found[name] = Points(at[decision.numpy()], joined[name][1].numpy(), decision.numpy())
    return found


def _tsne() -> Any:
    """scikit-learn's t-SNE, imported when it is used: it takes a second."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise RunError(
            "t-SNE is scikit-learn's, which cannot be imported; install it with: pip install 'scikit-learn>=1.5'."
        ) from error
    return TSNE
