"""JSON that outlives a version: public names, what older versions wrote, and strangers who name anything at all."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest

from torchpaths import AdaptiveDepth, Budget, CodedPaths, Fixed, GatedBlocks, GatedFilters, Method, RandomDrop
from torchpaths.cuts.spec import Spec
from torchpaths.data import Augment
from torchpaths.errors import DataError, RunError
from torchpaths.files import encode as files
from torchpaths.files.encode import decode, encode
from torchpaths.methods.together import Together
from torchpaths.train.folder import read_recipe
from torchpaths.train.recipe import Recipe
from train_toys import Labelled, Level, tiny

RECORDS = Path(__file__).resolve().parents[1] / "records"

OLD = [
    ("torchpaths.data.augment:Augment", Augment),
    ("torchpaths.layout:Budget", Budget),
    ("torchpaths.methods.adaptive_depth:AdaptiveDepth", AdaptiveDepth),
    ("torchpaths.methods.gated_blocks:GatedBlocks", GatedBlocks),
    ("torchpaths.methods.random_drop:RandomDrop", RandomDrop),
    ("torchpaths.path:Budget", Budget),
    ("torchpaths.units:Budget", Budget),
]


def test_classes_of_the_library_are_written_by_their_public_names_and_never_by_a_module() -> None:
    methods = Together((GatedBlocks(budget=Budget(open=0.5)), AdaptiveDepth()))
    recipe = tiny(method=methods, augment=Augment(pad=1))
    text = json.dumps(encode(recipe))
    assert "torchpaths" not in text
    data = json.loads(text)
    assert (data["class"], data["augment"]["class"], data["method"]["class"]) == ("Recipe", "Augment", "Together")
    assert [m["class"] for m in data["method"]["methods"]] == ["AdaptiveDepth", "GatedBlocks"]
    assert decode(data, "recipe") == recipe


@pytest.mark.parametrize(("name", "kind"), OLD)
def test_what_older_versions_wrote_opens(name: str, kind: type) -> None:
    given = {"open": 0.5} if kind is Budget else {}
    assert decode({"class": name, **given}, "method") == kind(**given)


def test_every_recipe_of_the_records_opens_as_it_was_written() -> None:
    found = [read_recipe(file.parent) for file in sorted(RECORDS.rglob("recipe.json")) if "model" in file.read_text()]
    assert len(found) >= 20
    kinds = {type(None), AdaptiveDepth, CodedPaths, Fixed, GatedBlocks, GatedFilters, RandomDrop, Together}
    assert {type(recipe.method) for recipe in found} == kinds


def test_a_method_of_others_is_written_by_its_module_and_read_where_that_is_imported() -> None:
    data = encode(Level(target=0.5))
    assert data["class"] == "train_toys:Level"
    assert decode(data, "method") == Level(target=0.5)


STRANGER = """
import pathlib, dataclasses
pathlib.Path(__file__).with_name("ran").write_text("")
from torchpaths.methods.base import Method
@dataclasses.dataclass(frozen=True)
class Theirs(Method):
    def find(self, model, example, residuals=None):
        return []
"""


def test_nothing_is_imported_because_a_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    data = {**tiny().to_json(), "method": {"class": "stranger:Theirs"}}
    (tmp_path / "recipe.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"recipe.json: method names stranger:Theirs, and stranger is not imported"):
        read_recipe(tmp_path)
    assert not (tmp_path / "ran").exists()
    import stranger  # type: ignore[import-not-found]  # the remedy

    assert (tmp_path / "ran").exists()
    assert read_recipe(tmp_path).method == stranger.Theirs()
    del sys.modules["stranger"]


def test_a_module_that_imports_what_is_asked_of_it_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchpaths itself does, and many others."""
    lazy = types.ModuleType("lazy")

    def asked(name: str) -> object:
        raise AssertionError(f"imported {name}")

    lazy.__getattr__ = asked  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    with pytest.raises(RunError, match="method names lazy:Late, which is no method"):
        decode({"class": "lazy:Late"}, "method")


@pytest.mark.parametrize(
    "name",
    [
        *("os:system", "pathlib:Path", "nowhere.at.all:Thing", "torchpaths.path:Missing", "torchpaths:GatedBlocks"),
        *("torchpaths.train.checkpoint:Checkpoint", "GatedBlock", "route", "", ":", "x:", "train_toys:tiny.x"),
        *("dataclasses:Field", "train_toys:Level.find", None, 3, ["GatedBlocks"]),
    ],
)
def test_a_file_from_a_stranger_cannot_name_any_class(name: object) -> None:
    with pytest.raises(RunError, match=r"^method(: .* names no class| names )"):
        Recipe.from_json({**tiny().to_json(), "method": {"class": name}})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"class": "RandomDrop", "rate": 0.5}, "method.rate: RandomDrop has no field 'rate'.*Did you mean 'rates'"),
        ({"class": "GatedBlocks", "budget": {"class": "Budgt"}}, "method.budget names 'Budgt'.*Did you mean 'Budget'"),
        ({"class": "GatedBlocks", "budget": {"class": "Budget", "opn": 1}}, "method.budget.opn: .*'open'"),
        ({"class": "GatedBlocks", "budget": {"open": 1}}, "method.budget: None names no class"),
        ({"class": "GatedBlocks", "budget": {"class": "Budget", "open": 7}}, r"method.budget: no Budget .*open=7"),
        ({"class": "RandomDrop", "rates": {}}, "method.rates: None names no class"),
        ({"class": "RandomDrop", "rates": "all"}, "method: no RandomDrop can be made of this"),
        ({"class": "Together", "methods": [{"class": "RandomDrop", "x": 1}]}, r"method.methods\[0\].x: RandomDrop has"),
        ({"class": "Together", "methods": [3]}, "method: no Together can be made of this"),
    ],
)
def test_unknown_fields_and_values_are_errors_that_name_the_key(data: object, said: str) -> None:
    with pytest.raises(RunError, match=said):
        Recipe.from_json({**tiny().to_json(), "method": data})


@dataclasses.dataclass(frozen=True)
class Knobs:
    x: int = 1


@dataclasses.dataclass(frozen=True)
class Knobbed(Level):
    knobs: Knobs = Knobs()


def test_what_could_not_be_read_again_is_not_written() -> None:
    @dataclasses.dataclass(frozen=True)
    class Inner(Level):
        pass

    with pytest.raises(RunError, match=r"exists only inside a function.*Define it at the top of test_encode"):
        encode(Inner())
    with pytest.raises(RunError, match=r"only methods are read again. Make its values fields of the method"):
        encode(Knobbed())
    with pytest.raises(RunError, match="a recipe cannot keep"):
        encode({"a": 1})


def test_a_method_of_the_script_that_runs_is_written_as_it_is_imported_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = types.ModuleType("__main__")
    script.__spec__, script.__file__ = None, "/somewhere/my_script.py"

    @dataclasses.dataclass(frozen=True)
    class Mine(Labelled):
        pass

    Mine.__module__, Mine.__qualname__ = "__main__", "Mine"
    script.Mine = Mine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert encode(Mine())["class"] == "my_script:Mine"
    assert decode(encode(Mine()), "method") == Mine()


DESCRIPTION = {
    "schema": "torchpaths.cut/2",
    "source": {"library": "torchpaths", "name": "cifar_resnet20", "kwargs": {"classes": 10, "channels": 3}},
    "network": "CifarResNet",
    "build": "",
    "edits": False,
    "path": {"schema": "torchpaths.path/1", "network": None, "sites": {}},
    "method": None,
    "input": {"shape": [3, 32, 32], "dtype": "float32", "mean": [], "std": []},
    "classes": [],
    "cut": {"macs": 1, "params": 1},
    "plain": {"macs": 1, "params": 1},
    "weights": {"file": "weights.safetensors", "sha256": "0" * 64},
}


def test_a_cuts_description_names_its_method_in_the_same_way(tmp_path: Path) -> None:
    kept = {**DESCRIPTION, "method": {"class": "os:system"}}
    (tmp_path / "spec.json").write_text(json.dumps(kept))
    with pytest.raises(DataError, match=r"spec.json: method names os:system, which is no method"):
        Spec.read(tmp_path)
    (tmp_path / "spec.json").write_text(json.dumps({**kept, "method": {"class": "Budget", "open": 0.5}}))
    with pytest.raises(DataError, match=r"spec.json: method: Budget.* is no method"):
        Spec.read(tmp_path)


def test_the_tables_hold_classes_that_are_there() -> None:
    assert {once for once, _ in OLD} <= files._ONCE.keys()
    for name in {*files._ONCE.values(), *files._VALUES}:
        kind = files._found(name)
        assert kind is not None
        assert kind.__name__ == name
    assert issubclass(Together, Method)
