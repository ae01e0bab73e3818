"""Who decides: modules from pooled features ``[batch, channels]`` to a `Decision`.

| file | who | what it looks at |
|---|---|---|
| `gate` | `Gate` | the image, by what it has learnt |
| `filters` | `FilterGate` | the image, for all filters of a layer at once |
| `chance` | `Chance` | nothing: it draws |
| `switch` | `Switch` | nothing: it is set from outside |
| `code` | `Code` | nothing: branches are given to classes from outside |
| `exit` | `Exit` | what the blocks of a coded network have said so far: whether an image is done |
| `gradients` | | how a hard decision gets a gradient |
"""

from __future__ import annotations

from torchpaths.deciders.chance import Chance
from torchpaths.deciders.code import Code
from torchpaths.deciders.exit import Exit
from torchpaths.deciders.filters import FilterGate, Mixing
from torchpaths.deciders.gate import Gate, Inference
from torchpaths.deciders.switch import Switch

__all__ = ["Chance", "Code", "Exit", "FilterGate", "Gate", "Inference", "Mixing", "Switch"]
