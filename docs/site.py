"""The documentation as a site: the same pages as here, with a reference of the public names.

    python docs/site.py [FOLDER]      # or make site; build/site by default

Pages are copied beside what they link to, so every link of theirs holds as it stands; one that leads nowhere stops the
build. Where a page's command writes the explorer of a record, the site runs it and shows the file below it, to be used.
Nothing is loaded from elsewhere when the site is read.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pathlib
import re
import shutil
import sys

import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

import torchpaths
from torchpaths import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
EXPLORER = re.compile(r"^torchpaths explore (records/\S+) --out (\S+\.html)\n```\n", re.MULTILINE)
FRAME = 'style="width: 100%; height: 44rem; border: 1px solid #8888"'
GROUPS = {
    "Verbs": lambda name: name[0].islower(),
    "Methods": lambda name: name in METHODS,
    "Words": lambda name: name[0].isupper() and name not in METHODS,
}
METHODS = ("AdaptiveDepth", "CodedPaths", "Fixed", "GatedBlocks", "GatedFilters", "RandomDrop", "Together")


def main(out: pathlib.Path) -> None:
    """Write the site into ``out/html`` and its sources into ``out/pages``.

    Raises:
        Abort: for a link that leads nowhere, naming it.
        SystemExit: for an explorer whose record has no survey, naming it.
    """
    pages, html = out / "pages", out / "html"
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    shutil.rmtree(out, ignore_errors=True)
    sources = collect(pages)
    (pages / "docs" / "api.md").write_text(reference())
    config = out / "mkdocs.yml"
    config.write_text(yaml.safe_dump(settings(pages, html, sources), sort_keys=False))
    build(load_config(str(config), strict=True))


def collect(pages: pathlib.Path) -> list[pathlib.PurePath]:
    """Copy the README, the pages of docs, and all they link to, each with what it links to; the Markdown among them."""
    waiting = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    taken: list[pathlib.Path] = []
    while waiting:
        file = waiting.pop(0)
        if file in taken:
            continue
        taken.append(file)
        target = pages / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        if file.suffix == ".md":
            live(target)
            linked = [(file.parent / link).resolve() for link in LINK.findall(file.read_text())]
            waiting += [one for one in linked if one.is_file() and ROOT in one.parents]
    return [file.relative_to(ROOT) for file in taken if file.suffix == ".md"]


def live(page: pathlib.Path) -> None:
    """Run the commands of a copied page that write an explorer, and show each file below its command."""

    def shown(command: re.Match[str]) -> str:
        record, name = command.groups()
        file = page.parent / name
        with contextlib.chdir(ROOT), contextlib.redirect_stdout(io.StringIO()):
            if cli.main(["explore", record, "--out", str(file.resolve())]):
                raise SystemExit(f"{page.name}: its explorer of {record} could not be written; see above.")
        frame = f'<iframe src="{name}" title="Explorer of {record}" loading="lazy" {FRAME}></iframe>'
        return f"{command[0]}\n{frame}\n\n[The same by itself, as wide as the window]({name})\n"

    page.write_text(EXPLORER.sub(shown, page.read_text()))


def reference() -> str:
    """The page of public names, each with its signature and docstring."""
    lines = ["# Reference", "", "Everything that `import torchpaths as tp` offers.", ""]
    for group, belongs in GROUPS.items():
        lines += [f"## {group}", ""]
        lines += [line for name in filter(belongs, torchpaths.__all__) for line in (f"::: torchpaths.{name}", "")]
    return "\n".join(lines)


def settings(pages: pathlib.Path, html: pathlib.Path, sources: list[pathlib.PurePath]) -> dict[str, object]:
    """mkdocs' configuration."""
    verbs = re.findall(r"^\| \[([^]]+)\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text(), re.MULTILINE)
    records = [str(file) for file in sources if file.parts[0] == "records"]
    python = {
        "paths": [str(ROOT / "src")],
        "options": {
            "docstring_style": "google",
            "show_root_heading": True,
            "show_root_full_path": False,
            "heading_level": 3,
            "show_source": False,
            "show_bases": False,
            "members_order": "source",
            "separate_signature": True,
            "show_signature_annotations": True,
            "filters": ["!^_"],
        },
    }
    return {
        "site_name": "torchpaths",
        "site_description": "Networks whose information paths you can see, choose and cut out.",
        "docs_dir": str(pages),
        "site_dir": str(html),
        "use_directory_urls": False,
        "theme": {
            "name": "material",
            "font": False,
            "palette": [{"scheme": "default", "primary": "blue grey", "accent": "deep orange"}],
            "features": ["navigation.sections", "toc.follow", "content.code.copy"],
        },
        "nav": [
            {"torchpaths": "README.md"},
            {"Pages": [{name: page} for name, page in verbs]},
            {"Reference": "docs/api.md"},
            {"Records": [{pathlib.PurePath(record).parts[1]: record} for record in records]},
        ],
        "plugins": ["search", {"mkdocstrings": {"handlers": {"python": python}}}],
        "markdown_extensions": ["tables", "fenced_code", "toc", "pymdownx.highlight", "pymdownx.superfences"],
        "validation": {"links": {"not_found": "warn", "anchors": "warn"}, "nav": {"omitted_files": "ignore"}},
    }


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site")
