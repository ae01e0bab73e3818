"""Which layers obey a site whose units are channels, in which role, and what of them runs in proportion to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import nn

from torchpaths.errors import RouteError
from torchpaths.layout import Cost
from torchpaths.places.channels.dividing import why_whole
from torchpaths.places.channels.layer import Role
from torchpaths.places.channels.spans import Span
from torchpaths.places.channels.weights import by_rows
from torchpaths.places.covers import Cover
from torchpaths.trace import Site


class WeightsError(RouteError):
    """A layer whose channels could be left out if its weights, or those of another that they reach, were others."""


def roles(span: Span, site: Site, notes: bool = False) -> dict[str, Role]:
    """Every layer that has to do with a site, and what.

    Args:
        span: of the site's channels.
        site: whose units are equal groups of them.
        notes: their features are measured in training too.
    """
    norms = dict(span.norms)
    found = {
        **{name: Role(rows=site, makes=True) for name in (span.producer, *span.aligned)},
        **{name: Role(rows=site, behind=norms.get(name, "")) for name in span.between},
        **{name: Role(columns=site, by_open=True) for name in span.squeezes},
        **{name: Role(columns=site) for name in span.consumers},
    }
    if span.end:
        found[span.end] = dataclasses.replace(found[span.end], ends=True)
    if span.features:
        measures = dataclasses.replace(found[span.features], of_rows=True, rectified=span.rectified, notes=notes)
        found[span.features] = measures
    elif span.consumers:
        first = span.consumers[0]
        found[first] = dataclasses.replace(found[first], of_columns=True, notes=notes)
    return found


def layer_covers(model: nn.Module, name: str, site: Site, axis: int, places: int) -> Iterator[Cover]:
    """What of a layer runs in proportion to the open units: MACs go with the weights of a convolution.

    Args:
        model: the untouched model.
        name: of the layer.
        site: whose units lie along an axis of its weights.
        axis: 0 for rows, 1 for columns.
        places: of an image, in which it computes.
    """
    layer = model.get_submodule(name)
    for key, parameter in by_rows(layer):
        if key in layer._parameters and (axis == 0 or key == "weight"):
            counts = key == "weight" and isinstance(layer, (nn.Conv2d, nn.Linear))
            cost = Cost(parameter.numel() * places if counts else 0, parameter.numel())
            yield Cover(site.name, cost, frozenset({f"{name}.{key}"}), axis=axis)


def check_weights(model: nn.Module, span: Span) -> None:
    """Raise `WeightsError` for a layer whose weights are not simply its own, or whose rows or columns need others."""
    for name in (span.producer, *span.between, *span.aligned, *span.squeezes, *span.consumers):
        layer = model.get_submodule(name)
        if any(key not in layer._parameters for key in ("weight", "bias")):
            raise WeightsError(
                f"the weights of {name!r} are computed (pruned, normalised or parametrised); make them plain first: "
                "prune.remove, remove_weight_norm or parametrize.remove_parametrizations"
            )
        why = why_whole(layer, int(name in (*span.squeezes, *span.consumers)))
        if why:
            raise WeightsError(f"{name!r}, a {type(layer).__name__}, {why}")
