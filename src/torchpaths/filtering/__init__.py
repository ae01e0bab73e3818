"""What the filters of a network routed with ``GatedFilters`` do: the analyses of network decoupling, section 4.

| file | question | of the paper |
|---|---|---|
| `states` | which filters are always open, never, or for some images? | figure 3 |
| `paths` | which filters open for a class, and for an image? | figures 4 and 9 |
| `information` | what do a layer's decisions and features tell of the class? | theorem 1 |
| `embedding` | do images of a class take the same filters? | figure 5 |
| `peaks`, `fields` | what does a filter see, and where? | figure 6 |
| `categories` | what does an open filter say of the class? | figure 7 |
| `runs` | what do the weights of the losses do? | figure 8, table 4 |
| `draw_states`, `draw_paths`, `draw_information`, `draw_peaks` | all of it drawn | |
| `report` | all of it measured, as JSON and figures | |

`sites` has the pass over images that all of them make, `maps` a filter's responses in every place, `classifier` the
linear classifier of the bounds. They go by sites of filters, whichever other methods the network has.
"""

from torchpaths.filtering.categories import category_given_open, filter_information, head_weights
from torchpaths.filtering.embedding import Points, embed
from torchpaths.filtering.fields import Fields, receptive_fields
from torchpaths.filtering.information import Bound, Information, information
from torchpaths.filtering.paths import ClassPaths, ImagePaths, class_paths, image_paths
from torchpaths.filtering.peaks import Peaks, peaks
from torchpaths.filtering.report import filter_report
from torchpaths.filtering.runs import Trained, trained
from torchpaths.filtering.sites import filter_sites
from torchpaths.filtering.states import FilterStates, filter_states

__all__ = [
    "Bound",
    "ClassPaths",
    "Fields",
    "FilterStates",
    "ImagePaths",
    "Information",
    "Peaks",
    "Points",
    "Trained",
    "category_given_open",
    "class_paths",
    "embed",
    "filter_information",
    "filter_report",
    "filter_sites",
    "filter_states",
    "head_weights",
    "image_paths",
    "information",
    "peaks",
    "receptive_fields",
    "trained",
]
