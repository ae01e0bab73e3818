"""What the filters of a network routed with ``GatedFilters`` do: the analyses of network decoupling, section 4.

| file | question | of the paper |
|---|---|---|
| `states` | which filters are always open, never, or for some images? | figure 3 |
"""

from torchpaths.filtering.states import FilterStates, filter_states

__all__ = ["FilterStates", "filter_states"]
