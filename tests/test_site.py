"""The documentation as a site: whole, with every public name, and no link that leads nowhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from mkdocs.exceptions import Abort

import torchpaths as tp

ROOT = Path(__file__).parents[1]
LIVE = {"gated-blocks": "gates", "adaptive-depth": "depths", "coded-paths": "coded", "gated-filters": "filters"}


@pytest.fixture
def site() -> Any:
    """The script."""
    found = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs" / "site.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_it_holds_all_pages_and_every_public_name_and_loads_nothing_from_elsewhere(site: Any, tmp_path: Path) -> None:
    site.main(tmp_path / "site")
    html = tmp_path / "site" / "html"
    for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / "records").glob("cifar10_resnet56/README.md")]:
        at = html / page.relative_to(ROOT)
        assert at.with_suffix(".html").exists() or at.with_name("index.html").exists()
    reference = (html / "docs" / "api.html").read_text()
    assert [name for name in tp.__all__ if f'id="torchpaths.{name}"' not in reference] == []
    for method, told in LIVE.items():
        shown = (html / "docs" / f"{told}.html").read_text()
        assert f'<iframe src="{method}.html"' in shown
        assert 'id="survey">{"schema":"torchpaths.survey' in (html / "docs" / f"{method}.html").read_text()
    for page in html.rglob("*.html"):
        assert not re.findall(r'(?:<script|<link|<img)[^>]*(?:src|href)="(?:https?:)?//[^"]+', page.read_text()), page


def test_a_link_that_leads_nowhere_stops_it(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# A\n\n[here](docs/b.md)\n")
    (tmp_path / "docs" / "b.md").write_text("# B\n\n[there](nowhere.md)\n")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "reference", lambda: "# C\n")
    with pytest.raises(Abort):
        site.main(tmp_path / "site")
    (tmp_path / "docs" / "b.md").write_text("# B\n\n[there](../README.md#part)\n")
    with pytest.raises(Abort):
        site.main(tmp_path / "site")


def test_an_explorer_of_a_record_without_a_survey_stops_it(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\ntorchpaths explore records/none --out none.html\n```\n")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="records/none"):
        site.live(page)
    assert "torchpaths survey records/none" in capsys.readouterr().err
