"""The figures of ConvNet-AIG, section 4.2, drawn from a survey: each function returns a matplotlib Figure.

| function | figure of the paper |
|---|---|
| `class_rates` | 4, execution rates of each block by class |
| `executed_layers` | 5 left, how many blocks images execute |
| `training_rates` | 5 right, execution rates over training |
| `easy_and_hard` | 6, images that use the fewest and the most blocks |
| `accuracy_macs` | 3, accuracy against the work done |

And from the same counts `open_together`: how far each two units open together.

`save` writes a figure as PNG and SVG, the same bytes each time; `save_all` writes all that a survey has the data for.
"""

from torchpaths.surveys.figures.images import ImageSource, easy_and_hard
from torchpaths.surveys.figures.layers import executed_layers
from torchpaths.surveys.figures.rates import class_rates
from torchpaths.surveys.figures.report import save_all
from torchpaths.surveys.figures.style import save
from torchpaths.surveys.figures.together import open_together
from torchpaths.surveys.figures.tradeoff import Point, accuracy_macs
from torchpaths.surveys.figures.training import read_rates, training_rates

__all__ = [
    "ImageSource",
    "Point",
    "accuracy_macs",
    "class_rates",
    "easy_and_hard",
    "executed_layers",
    "open_together",
    "read_rates",
    "save",
    "save_all",
    "training_rates",
]
