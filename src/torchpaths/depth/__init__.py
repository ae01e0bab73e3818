"""What an adaptive-depth network does at its depths: the analyses of AdaptiveDepth, sections 3.2, 4.3 and 4.4.

| file | question | of the paper |
|---|---|---|
| `patterns` | what is each combination of left-out stages worth? | figure 3a |
| `norms` | how far apart are the statistics of a norm's two versions? | figure 3b |
| `cam` | where does each block look, in the super-net and in the base-net? | figure 4 |
| `residuals` | how much does each block add, and does that go down the loss? | Eq. 3 and 7 |
| `observed` | what a block adds and to what, as it runs | |
| `figures`, `draw_residuals` | all of these drawn | |
"""

from torchpaths.depth.cam import activation_maps
from torchpaths.depth.norms import NormDistance, norm_distances
from torchpaths.depth.observed import Observed
from torchpaths.depth.patterns import Depth, depths
from torchpaths.depth.residuals import BlockMean, gradient_cosines, residual_sizes

__all__ = [
    "BlockMean",
    "Depth",
    "NormDistance",
    "Observed",
    "activation_maps",
    "depths",
    "gradient_cosines",
    "norm_distances",
    "residual_sizes",
]
