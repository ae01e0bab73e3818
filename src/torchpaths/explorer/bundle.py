"""One self-contained HTML file: the page's modules, styles and a survey's document, inlined.

The page is served as ES modules; a file opened from disk may import none, so here they are one module: in an order in
which each stands behind those it imports, without their import and export words. A content policy allows no other host
and no script but this one. The document is data between script tags: every ``<`` of it is escaped, so a class that is
called ``</script>`` stays a name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib import resources
from typing import Any

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |function|const )", re.MULTILINE)


def page_file(name: str) -> str:
    """A file of the page, by name."""
    return (resources.files("torchpaths.explorer") / "page" / name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """All modules of the page as one."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        text = page_file(name)
        done[name] = ""  # on its way
        for needed in _IMPORT.findall(text):
            add(needed)
        done[name] = done.pop(name) + _EXPORT.sub("", _IMPORT.sub("", text))

    add("main.js")
    return "\n".join(done.values())


def policy(script_text: str, style: str) -> str:
    """The content policy of a file: these two texts, pictures from within, no host."""
    kinds = {"script-src": script_text, "style-src": style}
    hashes = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in kinds.items()}
    allowed = [f"{kind} 'sha256-{digest}'" for kind, digest in hashes.items()]
    return "; ".join(["default-src 'none'", *allowed, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def embedded(document: dict[str, Any]) -> str:
    """A document as JSON that can stand between script tags."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def one_file(document: dict[str, Any]) -> str:
    """The page with a document in it, as HTML."""
    code, style, page = script(), page_file("style.css"), page_file("index.html")
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy(code, style)}">\n<style>{style}</style>'
    page = page.replace('<link rel="stylesheet" href="style.css">', head)
    page = page.replace('<script type="module" src="main.js"></script>\n', "")
    scripts = (
        f'<script type="application/json" id="survey">{embedded(document)}</script>\n'
        f'<script type="module">{code}</script>\n</body>'
    )
    return page.replace("</body>", scripts)
