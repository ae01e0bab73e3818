"""The console of tables, lines and bars: shows what it is given, and obeys none of it."""

from __future__ import annotations

import copy
from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from torchpaths.text import visible


class Console(RichConsole):
    """rich's console, for text from anywhere: no markup, no emoji, no colours by guess, no control characters.

    Every text goes through `render_str`, in lines as in cells, headings and titles of tables.

    Args:
        kwargs: as rich's own takes them.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **kwargs})

    def print(self, *objects: Any, **kwargs: Any) -> None:
        """See rich; but the title and caption of a table are as wide as the console and not as the table."""
        if len(objects) != 1 or not isinstance(objects[0], Table):
            super().print(*objects, **kwargs)
            return
        table = copy.copy(objects[0])
        title, table.title = table.title, None
        caption, table.caption = table.caption, None
        if title:
            super().print(title, **kwargs)
        super().print(table, **kwargs)
        if caption:
            super().print(caption, **kwargs)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """See rich."""
        return super().render_str(visible(text, keep="\n"), **kwargs)
