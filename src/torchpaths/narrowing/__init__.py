"""Filters that no image opens, removed for good, while what is left goes on deciding (network decoupling, section 4.1).

| file | what |
|---|---|
| `left` | what is left of each layer: which filters, and which of them keep their gates |
| `bare` | the model without junctions, with fewer filters |
| `rebuild` | that model routed again, with its deciders |
| `widen` | the other way: its weights in the whole network |
| `narrow` | all of it, from the states of filters |
"""

from torchpaths.narrowing.left import Left
from torchpaths.narrowing.narrow import left_of, narrow
from torchpaths.narrowing.rebuild import rebuild
from torchpaths.narrowing.widen import widen

__all__ = ["Left", "left_of", "narrow", "rebuild", "widen"]
