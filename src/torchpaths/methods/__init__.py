"""The four papers' methods, each a frozen dataclass of the paper's knobs."""
