"""What an adaptive-depth network does at its depths: the analyses of AdaptiveDepth, sections 4.3 and 4.4.

| file | question | figure of the paper |
|---|---|---|
| `patterns` | what is each combination of left-out stages worth? | 3a |
| `norms` | how far apart are the statistics of a norm's two versions? | 3b |
| `cam` | where does each block look, in the super-net and in the base-net? | 4 |
| `figures` | all three drawn | |
"""

from torchpaths.depth.cam import activation_maps
from torchpaths.depth.norms import NormDistance, norm_distances
from torchpaths.depth.patterns import Depth, depths

__all__ = ["Depth", "NormDistance", "activation_maps", "depths", "norm_distances"]
