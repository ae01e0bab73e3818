"""torch.export: a network as one graph of torch's own operators, in a file that torch alone runs."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from torchpaths.errors import RouteError, reason
from torchpaths.exports.form import Batch
from torchpaths.exports.formats import Format, Run
from torchpaths.exports.masks import without_empty_masks


def capture(module: nn.Module, x: Tensor, batch: Batch) -> ExportedProgram:
    """Trace a module with its weights.

    Args:
        module: of one batch.
        x: images, ``[batch, ...]``.
        batch: whether the graph takes single images or batches of any size.

    Raises:
        RouteError: if torch.export cannot trace it.
    """
    # A batch of 1 would be taken for a constant.
    example = x[:1] if batch == "one" else torch.cat([x, x])[:2]
    sizes = None if batch == "one" else ({0: Dim.DYNAMIC},)
    try:
        # Sites share the code of their branches; that their sizes differ must not make these sizes variables.
        fixed = torch._dynamo.config.patch(automatic_dynamic_shapes=False)
        with torch.no_grad(), fixed, without_empty_masks():
            return torch.export.export(module, (example,), dynamic_shapes=sizes, strict=False)
    except RouteError:
        raise
    except Exception as error:
        remedy = "try batch='one', or" if batch == "any" else "try"
        raise RouteError(
            f"torch.export cannot trace this network ({reason(error)}); {remedy} a path that fixes what it "
            "stumbles over."
        ) from error


class Torch(Format):
    """``.pt2``, run by ``torch.export.load(file).module()``."""

    title = "torch.export"
    name = "torch"

    def check(self) -> None:
        """Nothing to install."""

    def write(self, program: ExportedProgram, file: pathlib.Path) -> None:
        torch.export.save(program, file)

    def open(self, file: pathlib.Path) -> Run:
        module = torch.export.load(file).module()

        def run(x: Tensor) -> Sequence[Tensor]:
            with torch.no_grad():
                y = module(x)
            return y if isinstance(y, tuple) else (y,)

        return run
