"""Cut networks on disk: weights, a description, and a loader that needs no torchpaths."""

from torchpaths.cuts.read import load_cut
from torchpaths.cuts.save import save_cut
from torchpaths.cuts.spec import Spec

__all__ = ["Spec", "load_cut", "save_cut"]
