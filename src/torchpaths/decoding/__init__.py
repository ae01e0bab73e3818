"""What a coded network has learnt of its classes: the analyses of Coded ResNeXt, sections 4.2 to 4.4, and
calibration.

| file | question | of the paper |
|---|---|---|
| `removal` | what does removing branches of an image's own class cost, and what of the others? | figure 2a |
| `binary` | how well do the branches of one class tell it from all others? | figures 2b, 2c and 3 |
| `early` | how early do the energies tell the class, and what is agreement worth? | figure 4, table 3 |
| `calibration` | does the confidence say how often the network is right? | ours; appendix C was not at hand |
| `draw_classes`, `draw_confidence` | all of it drawn | |
| `report` | all of it measured, as JSON and figures | |

`words` has the paths of classes, `readings` what one pass of a network keeps of each image.
"""

from torchpaths.decoding.binary import Classifiers, Quality, Scores, best_threshold, class_scores, classifiers
from torchpaths.decoding.calibration import Calibration, calibrate
from torchpaths.decoding.early import Early, early
from torchpaths.decoding.readings import Readings, read
from torchpaths.decoding.removal import Removal, removal
from torchpaths.decoding.report import decode_report
from torchpaths.decoding.words import class_path
from torchpaths.trust.reliability import Reliability, reliability
from torchpaths.trust.temperature import Scaling, fit

__all__ = [
    "Calibration",
    "Classifiers",
    "Early",
    "Quality",
    "Readings",
    "Reliability",
    "Removal",
    "Scaling",
    "Scores",
    "best_threshold",
    "calibrate",
    "class_path",
    "class_scores",
    "classifiers",
    "decode_report",
    "early",
    "fit",
    "read",
    "reliability",
    "removal",
]
