"""Detection and instance segmentation with depth chosen at run time (AdaptiveDepth, section 4.5).

| file | what |
|---|---|
| `annotations`, `pictures`, `masks` | COCO's layout: what it says, where its images lie, its polygons and run lengths |
| `coco` | a data set in that layout, as torchvision's detectors take it |
| `shapes` | a made-up one |
| `losses` | Algorithm 1 for detectors |
| `evaluate` | COCO's average precision along a path |
| `recipe`, `batches`, `folder`, `train` | training, killed and resumed at will |
"""

from torchpaths.detection.coco import CocoSet, collate
from torchpaths.detection.evaluate import average_precision, detect, evaluate
from torchpaths.detection.losses import passes
from torchpaths.detection.recipe import Recipe
from torchpaths.detection.shapes import shapes
from torchpaths.detection.train import train
from torchpaths.train.objective import backward

__all__ = [
    "CocoSet",
    "Recipe",
    "average_precision",
    "backward",
    "collate",
    "detect",
    "evaluate",
    "passes",
    "shapes",
    "train",
]
