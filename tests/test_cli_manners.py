"""How the command behaves: help at once, readers that go, tables of 80 columns, how far it is, short texts."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from rich.table import Table

import torchpaths as tp
from survey_toy import Toy, loader
from torchpaths import cli
from torchpaths.cli import OK, help_page, pages
from torchpaths.fronts import Front, Point
from torchpaths.progress import clock, telling, tracked
from torchpaths.surveys import gate_health, survey
from torchpaths.terminal import Console
from train_toys import ToyNet


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_page_of_a_verbs_help_is_what_its_options_say(verb: str) -> None:
    assert help_page(verb).read_text(encoding="utf-8") == pages.written(verb), "run python -m torchpaths.cli.pages"


def test_help_imports_neither_torch_nor_tyro() -> None:
    """The time itself is no test: it depends on the machine."""
    look = (
        "import sys; from torchpaths.cli import VERBS, main; [main([v, '--help']) for v in VERBS];"
        "print(sorted({'torch', 'tyro', 'numpy', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert told.stderr.strip() == "[]"
    assert max(map(len, told.stdout.splitlines())) <= pages.WIDTH


def test_a_reader_that_goes_is_no_error_worth_a_word() -> None:
    for arguments in (["--help"], ["train", "--help"], []):
        asked = subprocess.Popen(
            [sys.executable, "-m", "torchpaths", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.close()
        said = asked.stderr.read().decode()
        asked.wait()
        assert "Traceback" not in said
        assert "BrokenPipe" not in said


def test_titles_and_captions_are_as_wide_as_the_console_and_not_as_the_table() -> None:
    out = io.StringIO()
    table = Table(title="a title of more words than the table has columns", caption="and a caption as long as that")
    table.add_column("x")
    table.add_row("1")
    Console(file=out, width=80).print(table)
    lines = out.getvalue().splitlines()
    assert lines[0] == "a title of more words than the table has columns"
    assert lines[-1] == "and a caption as long as that"
    assert table.title, "the table itself stays as it was"


def test_off_a_terminal_a_line_now_and_then_says_how_far_it_is_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter(float(4 * i) for i in range(100))
    monkeypatch.setattr("torchpaths.progress.time.monotonic", lambda: next(now))
    out = io.StringIO()
    assert list(tracked(range(8), "survey", 8, Console(file=out))) == list(range(8))
    # A step takes 4 s, so that every third one is told of; the first look is at 4 s.
    assert out.getvalue().splitlines() == ["survey: 2 of 8, 0:36 left", "survey: 5 of 8, 0:14 left"]
    out = io.StringIO()
    with telling("front", console=Console(file=out)) as tell:
        for i in range(4):
            tell(f"step {i}")
    assert out.getvalue().splitlines() == ["front: step 0", "front: step 3"]
    with telling("front", show=False, console=Console(file=out)) as tell:
        tell("nothing")
    assert "nothing" not in out.getvalue()
    assert [clock(7), clock(75), clock(3723)] == ["0:07", "1:15", "1:02:03"]


def test_surveys_and_fronts_are_short_in_python() -> None:
    found = survey(Toy(), loader())
    assert len(repr(found)) < 200
    assert f"{found.accuracy:.2%} right" in str(found)
    net = tp.route(ToyNet(), tp.GatedBlocks(), example=torch.zeros(2, 1, 6, 6))
    path = tp.Path.full(net)
    points = (Point("full", path, accuracy=0.9, macs=100.0), Point("threshold", None, 1.5, accuracy=0.8, macs=50.0))
    lines = str(Front(net.layout, points, (), 0.9, 10, name="toy")).splitlines()
    assert lines[0] == "Front(toy: 10 images, 90.00% all open)"
    assert lines[1].startswith("  2: gates at 1.5: 80.00%")
    assert len(lines) == 3


def test_a_survey_of_a_fixed_path_says_what_is_closed() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 1, 6, 6)
    net = tp.route(ToyNet(), tp.Fixed(("block2",)), example=x)
    health = gate_health(survey(net, [(x, torch.zeros(6, dtype=torch.long))]))
    assert health.closed == ("block2",)
    assert health.rows() == [
        "no gates: nothing in this network is decided by the input; closed for every image: block2"
    ]


def test_a_path_that_all_rows_share_takes_no_column() -> None:
    from torchpaths.meter import table

    torch.manual_seed(0)
    x = torch.randn(4, 1, 6, 6)
    net = tp.route(ToyNet(), example=x)
    shut = tp.Path({"block1": [False], "block2": [True]})
    rows = tp.measure_all({"masked": net, "path, skipping": (tp.skipping(net), shut)}, x, seconds=0.01)
    out = io.StringIO()
    Console(file=out, width=80).print(table(rows))
    assert "the path: 1 of 2 open" in out.getvalue()
    assert "\u2026" not in out.getvalue(), "nothing is cut off at 80 columns"


def test_a_name_that_is_no_recipe_lists_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    from torchpaths.train.recipes import RECIPES

    assert cli.main(["train", "pets"]) != OK
    said = capsys.readouterr().err
    assert all(repr(name) in said for name in RECIPES)
