"""Cut networks on disk: weights, a description, and a loader that needs no torchpaths."""

from torchpaths.cut.read import load_cut
from torchpaths.cut.save import save_cut
from torchpaths.cut.spec import Spec

__all__ = ["Spec", "load_cut", "save_cut"]
