"""Images: sets (scikit-learn's digits, Parquet, folders), augmentation, loaders."""

from torchpaths.data.augment import Augment
from torchpaths.data.images import ImageSet
from torchpaths.data.loader import Loader
from torchpaths.data.sources import open_data

__all__ = ["Augment", "ImageSet", "Loader", "open_data"]
