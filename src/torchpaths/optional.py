"""Packages that not everybody needs, imported where they are used: ``need`` names the extra that brings one."""

from __future__ import annotations

import importlib
from types import ModuleType

from torchpaths.errors import RunError


def need(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: dotted name of the module.
        extra: of torchpaths, the one that brings it.

    Raises:
        RunError: if it is not installed, with the command that does.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RunError(f"{package} is not installed; install it with: pip install 'torchpaths[{extra}]'.") from error
