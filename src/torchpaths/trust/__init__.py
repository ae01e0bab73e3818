"""What an image's path says about how far its answer can be trusted.

| file | what |
|---|---|
| `answers` | what is kept of each image: scores, costs, and the marks of its path |
| `detectors` | scores of suspicion by path and, for comparison, by logits |
| `roc` | AUROC and FPR95 of a score, with intervals |
| `reliability`, `temperature` | expected calibration error; temperatures |
| `calibration` | both, by budget and by how common a path is |
| `selective` | asking again at a larger budget where the first answer is suspicious |
| `draw` | all of it drawn |
"""

from torchpaths.trust.answers import Answers, answers
from torchpaths.trust.calibration import Calibrated, Group, by_budget, by_path
from torchpaths.trust.detectors import Known, suspicion
from torchpaths.trust.reliability import Reliability, reliability
from torchpaths.trust.roc import Separation, separation
from torchpaths.trust.selective import Escalation, escalations
from torchpaths.trust.temperature import Scaling, fit

__all__ = [
    "Answers",
    "Calibrated",
    "Escalation",
    "Group",
    "Known",
    "Reliability",
    "Scaling",
    "Separation",
    "answers",
    "by_budget",
    "by_path",
    "escalations",
    "fit",
    "reliability",
    "separation",
    "suspicion",
]
