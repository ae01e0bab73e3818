"""``python -m torchpaths``: the command."""

import sys

from torchpaths.cli import main

sys.exit(main())
