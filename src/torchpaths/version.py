"""The version, where whatever writes it into files finds it."""

__version__ = "0.1.0"
