"""The text of load.py: a few lines that make a cut network and fill it with its weights, without torchpaths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from torchpaths.cuts.code import OWN, Code, call, left, value
from torchpaths.cuts.spec import WEIGHTS
from torchpaths.extraction import Cut
from torchpaths.models.energy import EnergyConv2d
from torchpaths.models.spread import is_spread, spread_out
from torchpaths.places.residual.along import hands_on

_HEAD = '''\
"""{about}"""

{imports}

WEIGHTS = pathlib.Path(__file__).with_name({weights!r})
SHA256 = {sha256!r}
'''

_TAKE_OUT = '''\
def take_out(blocks, gone):
    """Remove blocks from a list; those behind them move up."""
    names = list(blocks._modules)
    left = [blocks._modules[name] for name in names if name not in gone]
    blocks._modules.clear()
    blocks._modules.update(zip(names, left))
'''

_RESIZE = '''\
def resize(layer, sizes, shapes):
    """Give a layer other sizes; its weights are read later."""
    vars(layer).update(sizes)
    for name, shape in shapes.items():
        old = getattr(layer, name)
        new = torch.zeros(shape, dtype=old.dtype)
        setattr(layer, name, torch.nn.Parameter(new) if isinstance(old, torch.nn.Parameter) else new)
'''

_SIZES = ("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features")

_LOAD = '''\
def load():
    """The network with its weights, in evaluation mode."""
    data = WEIGHTS.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{{WEIGHTS}} is truncated or was changed; copy the folder again")
    model = build(){dtype}
    model.load_state_dict(read(data))
    return model.eval()


if __name__ == "__main__":
    print(load())
'''


def edited(original: Code, cut: Cut, children: Mapping[str, list[str]]) -> list[Code]:
    """Definitions that make the original and edit it as the path did; the last is ``build``.

    Args:
        original: makes the original network.
        cut: what was done to it.
        children: what the children of each of ``cut.kept`` are called in the original.

    Raises:
        RouteError: if what is left of a block cannot be written as source text.
    """
    lines = [f"model = {original.text}"]
    classes: dict[str, Code] = {}
    imports = original.imports | {"import torch"}
    resized = moved = False
    for name, module in cut.left.items():
        if isinstance(module, fx.GraphModule):
            kind = _class(module, classes)
            lines.append(f"model.set_submodule({name!r}, {kind}(model.get_submodule({name!r})))")
        elif hands_on(module):
            lines.append(f"model.set_submodule({name!r}, torch.nn.Identity())")
        elif isinstance(module, EnergyConv2d):
            numbers = (module.in_channels, module.out_channels, module.branches, module.of)
            made = call(value(EnergyConv2d), numbers, {} if module.bias is not None else {"bias": False})
            imports |= made.imports
            lines.append(f"model.set_submodule({name!r}, {made.text})")
        else:
            resized = True
            sizes, shapes = _sizes(module), {n: tuple(t.shape) for n, t in _tensors(module)}
            lines.append(f"resize(model.get_submodule({name!r}), {sizes}, {shapes})")
            if is_spread(module):
                own: Any = module
                layer = Code(f"model.get_submodule({name!r})")
                made = call(value(spread_out), (layer, own.spread_places.tolist(), own.spread_channels), {})
                imports |= made.imports
                lines.append(f"model.set_submodule({name!r}, {made.text})")
    for name, kept in cut.kept.items():
        gone = [child for child in children[name] if child not in kept.values()]
        blocks = f"model.get_submodule({name!r})"
        if any(new != old for new, old in kept.items()):
            moved = True
            lines.append(f"take_out({blocks}, {gone!r})")
        else:
            lines += [f"delattr({blocks}, {child!r})" for child in gone]
    helpers = [Code(text) for text, used in ((_TAKE_OUT, moved), (_RESIZE, resized)) if used]
    return [*classes.values(), *helpers, _build([*lines, "return model"], imports)]


def _sizes(layer: nn.Module) -> dict[str, int]:
    """What a layer says of its own sizes."""
    return {name: number for name, number in vars(layer).items() if name in _SIZES}


def _tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Its parameters and buffers that have sizes; not the places of channels that it spreads."""
    for name, tensor in (*layer._parameters.items(), *layer._buffers.items()):
        if tensor is not None and tensor.dim() > 0 and name != "spread_places":
            yield name, tensor


def _class(module: fx.GraphModule, classes: dict[str, Code]) -> str:
    """The name of a class for what is left of a block: blocks of which the same is left share one."""
    kind = type(module).__name__
    for name, code in classes.items():
        if name.startswith(kind) and left(module, name) == code:
            return name
    name = f"{kind}Left{len(classes) + 1}"
    classes[name] = left(module, name)
    return name


def made(expression: Code) -> list[Code]:
    """Definitions for a network that the library itself makes."""
    return [_build([f"return {expression.text}"], expression.imports)]


def _build(lines: list[str], imports: frozenset[str]) -> Code:
    body = [f"    {line}" for line in lines]
    return Code("\n".join(["def build():", '    """The network, without its weights."""', *body, ""]), imports)


def beside(definitions: list[Code]) -> list[str]:
    """Names of the modules of torchpaths whose files must lie beside the loader."""
    wanted = {i for d in definitions for i in d.imports if i.startswith(f"import {OWN}")}
    return sorted(i.rpartition(" ")[2] for i in wanted)


def text(about: str, definitions: list[Code], sha256: str, dtype: torch.dtype) -> str:
    """The file.

    Args:
        about: its documentation.
        definitions: what defines ``build``.
        sha256: of the weights file.
        dtype: of the weights.
    """
    imports = {i for d in definitions for i in d.imports if not i.startswith(f"import {OWN}")}
    own = beside(definitions)
    imports |= {"import hashlib", "import pathlib"} | ({"import sys"} if own else set())
    imports |= {"import torch"} if dtype is not torch.float32 else set()
    lines = [*sorted(imports), "from safetensors.torch import load as read"]
    if own:
        lines += ["", "sys.path.insert(0, str(pathlib.Path(__file__).parent))", *(f"import {name}" for name in own)]
    head = _HEAD.format(about=about, imports="\n".join(lines), weights=WEIGHTS, sha256=sha256)
    tail = _LOAD.format(dtype=f".to({dtype})" if dtype is not torch.float32 else "")
    return "\n\n".join([head, *(d.text.rstrip() + "\n" for d in definitions), tail])
