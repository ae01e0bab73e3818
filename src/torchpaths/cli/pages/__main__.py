"""``python -m torchpaths.cli.pages``: write the help of each verb anew."""

from __future__ import annotations

from torchpaths.cli.pages import main

main()
