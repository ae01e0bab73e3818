"""The package as others get it: lock, licence, citation, wheel, make and the public surface."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import torchpaths

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(requirement: str) -> str:
    """A requirement's project name in normal form."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def entries() -> list[str]:
    """The lock's requirements, each with its hashes on one line."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def test_the_lock_holds_names_versions_and_hashes_and_no_address() -> None:
    form = re.compile(r"[a-z0-9._-]+==[^\s;]+(\s*;[^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [entry for entry in entries() if not form.fullmatch(entry)] == []


def test_the_lock_holds_every_direct_dependency() -> None:
    direct = {name_of(r) for r in [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]}
    assert direct <= {name_of(entry) for entry in entries()}


def test_the_licence_is_the_whole_apache_2_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert all(f"\n   {number}. " in text for number in range(1, 10))
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_citation_names_the_four_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    papers = {(paper["authors"][0]["family-names"], paper["year"]) for paper in citation["references"]}
    assert papers == {("Veit", 2018), ("Li", 2020), ("Avranas", 2022), ("Kang", 2024)}
    assert all(paper["title"] and paper["conference"]["name"] for paper in citation["references"])


def test_package_project_and_citation_say_the_same_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert torchpaths.__version__ == PROJECT["project"]["version"] == citation["version"]


def test_the_wheel_holds_the_package_with_its_licence_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"torchpaths/__init__.py", "torchpaths/py.typed", "torchpaths/cli/__init__.py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names} == {
        "torchpaths",
        f"torchpaths-{torchpaths.__version__}.dist-info",
    }


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, torchpaths; sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    assert [name for name in torchpaths.__all__ if getattr(torchpaths, name, None) is None] == []
    assert set(torchpaths.__all__) <= set(dir(torchpaths))
    with pytest.raises(AttributeError, match="no attribute 'GatedBlock'"):
        _ = torchpaths.GatedBlock


def test_no_source_file_is_longer_than_400_lines() -> None:
    assert [str(p) for p in (ROOT / "src").rglob("*.py") if len(p.read_text().splitlines()) > 400] == []


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("demo", "torchpaths train"),
        ("test", "-m pytest"),
        ("lint", "mypy --strict"),
        ("lock", "pip compile --quiet --universal"),
    ],
)
def test_a_make_target_ends_in_its_command(target: str, command: str) -> None:
    plan = subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert command in plan


def test_the_environment_is_made_from_the_lock_with_hashes_required(tmp_path: Path) -> None:
    make = ["make", "-n", "setup", f"VENV={tmp_path / 'none'}"]
    plan = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "--require-hashes -r requirements.lock" in plan
    assert "--no-deps --no-build-isolation -e ." in plan


def test_the_script_of_continuous_integration_is_executable_and_parses() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
