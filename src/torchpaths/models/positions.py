"""Weights of transformers for images of another size: what a network knows of places is brought to its own grid.

timm's networks take ``img_size``, and beside each stands the function by which timm itself loads published weights into
one of another size: position embeddings are interpolated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import Tensor, nn

_PLACES = ("pos_embed", "relative_position_bias_table", "relative_position_index", "attn_mask")
"""How timm's names end of what depends on the size of images."""


def resized(model: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, those of places for images of the size that ``model`` is made for. Others stay as they are."""
    wanted = model.state_dict()
    places = [k for k, v in found.items() if k.endswith(_PLACES) and k in wanted and wanted[k].shape != v.shape]
    home = type(model).__module__
    fit = getattr(sys.modules[home], "checkpoint_filter_fn", None) if home.startswith("timm.") else None
    if not places or fit is None:
        return dict(found)
    try:
        fitted = fit(dict(found), model)
    except Exception:  # weights of another network altogether, as the comparison that follows says in words
        return dict(found)
    return {k: fitted.get(k, v) if k in places else v for k, v in found.items()}
