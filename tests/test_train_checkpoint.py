"""Checkpoints: whole or absent, whatever happens; damage and strangers are named."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torchpaths import GatedBlocks, Method
from torchpaths.errors import RunError
from torchpaths.methods.together import Together
from torchpaths.train.checkpoint import SCALARS, TENSORS, Checkpoint, load, save
from torchpaths.train.objective import total
from torchpaths.train.recipe import Recipe
from torchpaths.train.state import State
from train_toys import Labelled, Level, Softly, batch, tiny, toy


def made(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((3, 2), float(step))}, {"note": f"step {step}"})


def steps(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir())


def test_a_checkpoint_comes_back_bitwise(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(5, 3, 2, 2).to(memory_format=torch.channels_last), "n": torch.tensor(7)}
    tensors["tied"] = tensors["a"]
    save(tmp_path, Checkpoint(4, tensors, {"x": [1.5]}), best=False)
    found = load(tmp_path)
    assert found is not None
    assert found.step == 4
    assert found.scalars["x"] == [1.5]
    assert all(torch.equal(found.tensors[k], v) for k, v in tensors.items())


def test_the_last_the_one_before_and_the_best_are_kept_and_no_other(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, made(step), best=step == 2)
    assert steps(tmp_path) == ["step-00000002", "step-00000005", "step-00000006"]
    last, best = load(tmp_path), load(tmp_path, "best")
    assert last is not None
    assert best is not None
    assert (last.step, best.step) == (6, 2)


def test_where_nothing_was_saved_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    assert load(tmp_path / "absent", "best") is None


@pytest.mark.parametrize("file", [TENSORS, SCALARS])
def test_a_truncated_or_corrupt_checkpoint_is_named_and_the_one_before_can_be_used(tmp_path: Path, file: str) -> None:
    save(tmp_path, made(1), best=False)
    damaged = save(tmp_path, made(2), best=False) / file
    whole = damaged.read_bytes()
    # A flipped bit in the tensors' last number, as well as cuts, must be found.
    flipped = whole[:-2] + bytes([whole[-2] ^ 64]) + whole[-1:]
    for data in (whole[: len(whole) // 2], b"", flipped) if file == TENSORS else (whole[:20], b""):
        damaged.write_bytes(data)
        with pytest.raises(
            RunError, match=r"step-00000002.*remove .*step-00000002 to go on from the checkpoint before"
        ):
            load(tmp_path)
    for part in damaged.parent.iterdir():
        part.unlink()
    damaged.parent.rmdir()
    found = load(tmp_path)
    assert found is not None
    assert found.step == 1


def test_a_damaged_index_is_named_with_what_to_write_into_it(tmp_path: Path) -> None:
    save(tmp_path, made(1), best=False)
    for text in ("{", "[]", '["step-00000001"]'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(RunError, match=r"index.json: .*write the name of a checkpoint"):
            load(tmp_path)


def test_a_checkpoint_of_another_schema_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, made(1), best=False)
    scalars = json.loads((folder / SCALARS).read_text())
    (folder / SCALARS).write_text(json.dumps({**scalars, "schema": "torchpaths.checkpoint/9"}))
    with pytest.raises(
        RunError, match=r"no checkpoint of schema 'torchpaths.checkpoint/1': found 'torchpaths.checkpoint/9'"
    ):
        load(tmp_path)


@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_full_disk_leaves_the_checkpoint_before_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    """The disk fills up at the tensors, at the scalars or at the index: three files are flushed per checkpoint."""
    save(tmp_path, made(1), best=True)
    fsync, files = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal files
        files += os.path.isfile(f"/proc/self/fd/{handle}") if os.path.isdir("/proc/self/fd") else 1
        if files == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunError, match=r"the disk is full: .*step-00000002.*earlier checkpoints are intact. Free some space"
    ):
        save(tmp_path, made(2), best=True)
    monkeypatch.undo()
    found = load(tmp_path)
    assert found is not None
    assert found.step == 1
    assert not list(tmp_path.glob(".*")), "half-written files were left on a full disk"
    save(tmp_path, made(2), best=True)
    again = load(tmp_path, "best")
    assert again is not None
    assert again.step == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"could not be written .*Make the folder writable"):
        save(tmp_path / "file", made(1), best=False)


def test_a_checkpoint_the_index_does_not_name_is_written_anew(tmp_path: Path) -> None:
    """Killed between renaming and indexing, a process leaves a checkpoint whose metrics belong to a lost future."""
    save(tmp_path, made(1), best=False)
    index = (tmp_path / "index.json").read_bytes()
    save(tmp_path, Checkpoint(2, {}, {"note": "lost"}), best=False)
    (tmp_path / "index.json").write_bytes(index)
    found = load(tmp_path)
    assert found is not None
    assert found.step == 1
    save(tmp_path, made(2), best=False)
    again = load(tmp_path)
    assert again is not None
    assert again.scalars["note"] == "step 2"


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".step-00000009.123").mkdir()
    (tmp_path / ".step-00000009.123" / TENSORS).write_bytes(b"half")
    save(tmp_path, made(1), best=False)
    assert steps(tmp_path) == ["step-00000001"]


def trained(recipe: Recipe, steps: int = 2) -> State:
    state = State.fresh(toy(recipe.method or Level(), double=False), recipe)
    for step in range(steps):
        take_step(state, step)
    return state


def take_step(state: State, seed: int) -> None:
    x, y = batch(seed=seed)
    total(state.objective(x.float(), y).values()).backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema is not None:
        state.ema.update(state.net, state.step)
    state.step += 1


HEADED = Together((Softly(), Labelled()))


@pytest.mark.parametrize("method", [None, HEADED], ids=["network", "network and heads"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizer_and_average_go_on_from_a_checkpoint_bitwise(
    tmp_path: Path, optimizer: Any, method: Method | None
) -> None:
    recipe = tiny(optimizer=optimizer, ema=0.9, method=method)
    state = trained(recipe)
    save(tmp_path, state.capture(recipe), best=False)
    found = load(tmp_path)
    assert found is not None
    resumed = State.fresh(toy(method or Level(), double=False, seed=5), recipe)
    resumed.restore(found, recipe)
    assert resumed.step == 2
    for one in (state, resumed):
        take_step(one, 9)
    a, b = state.capture(recipe).tensors, resumed.capture(recipe).tensors
    assert a.keys() == b.keys()
    assert any(name.startswith("optimizer.") for name in a)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_keeps_heads_under_names_of_their_own_and_the_networks_as_they_were() -> None:
    recipe = tiny(method=HEADED, ema=0.9)
    state = trained(recipe)
    own = {"Labelled.block1.asked", "Labelled.block1.linear.bias", "Labelled.block1.linear.weight"}
    own |= {name.replace("1", "2") for name in own}
    names = set(state.capture(recipe).tensors)
    assert {n for n in names if n.startswith("heads.")} == {f"heads.{name}" for name in own}
    moments = {n for n in names if n.startswith("optimizer.heads.")}
    assert moments == {f"optimizer.heads.{name}.momentum_buffer" for name in own if not name.endswith("asked")}
    without = tiny(method=Softly(), ema=0.9)
    assert names - {f"heads.{name}" for name in own} - moments == set(trained(without).capture(without).tensors)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    assert state.objective.heads is not None
    expected = [*state.net.parameters(), *state.objective.heads.parameters()]
    assert all(a is b for a, b in zip(parameters, expected, strict=True))


def test_heads_begin_as_the_seed_says_whatever_was_drawn_before() -> None:
    def first(seed: int, before: int) -> Tensor:
        net = toy(Labelled())
        torch.manual_seed(before)
        return State.fresh(net, tiny(method=Labelled(), seed=seed)).heads["heads.block1.linear.weight"]

    assert torch.equal(first(0, 1), first(0, 2))
    assert not torch.equal(first(0, 1), first(1, 1))


def test_a_checkpoint_without_the_heads_of_its_method_is_refused(tmp_path: Path) -> None:
    recipe = tiny(method=Labelled())
    captured = trained(recipe).capture(recipe)
    less = {k: v for k, v in captured.tensors.items() if k != "heads.block1.linear.bias"}
    save(tmp_path, Checkpoint(2, less, captured.scalars), best=False)
    found = load(tmp_path)
    assert found is not None
    with pytest.raises(RunError, match=r"another network \(1 tensors differ: heads.block1.linear.bias is missing"):
        State.fresh(toy(Labelled(), double=False), recipe).restore(found, recipe)


def test_a_checkpoint_that_names_classes_as_they_once_were_goes_on(tmp_path: Path) -> None:
    recipe = tiny(method=GatedBlocks())
    captured = trained(recipe).capture(recipe)
    text = json.dumps(captured.scalars["recipe"])
    for name, once in (("GatedBlocks", "methods.gated_blocks"), ("Budget", "units"), ("Augment", "data.augment")):
        assert f'"{name}"' in text
        text = text.replace(f'"class": "{name}"', f'"class": "torchpaths.{once}:{name}"')
    save(tmp_path, Checkpoint(2, captured.tensors, {**captured.scalars, "recipe": json.loads(text)}), best=False)
    found = load(tmp_path)
    assert found is not None
    resumed = State.fresh(toy(GatedBlocks(), double=False, seed=5), recipe)
    resumed.restore(found, recipe)
    assert resumed.step == 2


def test_a_checkpoint_of_another_recipe_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    recipe = tiny(method=Level())
    save(tmp_path, trained(recipe).capture(recipe), best=False)
    found = load(tmp_path)
    assert found is not None
    other = tiny(method=Level(target=0.5), lr=0.3, checkpoint_steps=7)
    state = State.fresh(toy(Level(), double=False), other)
    before = {k: v.clone() for k, v in state.net.state_dict().items()}
    with pytest.raises(RunError) as error:
        state.restore(found, other)
    assert "another recipe: method.target: 0.25 -> 0.5; lr: 0.05 -> 0.3." in str(error.value)
    assert "checkpoint_steps" not in str(error.value), "how often to save does not change the run"
    assert all(torch.equal(before[k], v) for k, v in state.net.state_dict().items())


def test_a_checkpoint_of_another_network_is_refused_with_the_tensors_that_differ(tmp_path: Path) -> None:
    recipe = tiny()
    captured = trained(recipe).capture(recipe)
    wrong = {k: v for k, v in captured.tensors.items() if k != "net.model.head.bias"} | {
        "net.model.head.weight": torch.zeros(9, 4)
    }
    save(tmp_path, Checkpoint(2, wrong, captured.scalars), best=False)
    found = load(tmp_path)
    assert found is not None
    with pytest.raises(
        RunError, match=r"another network \(2 tensors differ: .*head.bias is missing; .*\[9, 4\] for float32 \[3, 4\]"
    ):
        State.fresh(toy(Level(), double=False), recipe).restore(found, recipe)
