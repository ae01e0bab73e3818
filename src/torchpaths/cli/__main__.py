"""``python -m torchpaths.cli``: the command where it is not installed."""

from __future__ import annotations

import sys

from torchpaths.cli import main

sys.exit(main())
