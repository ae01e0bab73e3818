"""Vision models of transformers, made small from their configurations: everything that holds for others holds for them,
and they are called, asked for hidden states and saved as they always were."""

from __future__ import annotations

import copy
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import torchpaths as tp
from torchpaths.errors import CallError, DataError, RouteError, RunError
from transformers_toys import FAMILIES, X, make

transformers = pytest.importorskip("transformers")


def equal(a: Any, b: Any) -> bool:
    ours, theirs = ([t for t in tree_leaves(y) if isinstance(t, Tensor)] for y in (a, b))
    return len(ours) == len(theirs) > 0 and all(map(torch.equal, ours, theirs))


def close(a: Any, b: Any) -> bool:
    ours, theirs = ([t for t in tree_leaves(y) if isinstance(t, Tensor)] for y in (a, b))
    return len(ours) == len(theirs) > 0 and all(
        torch.allclose(p, q, atol=1e-5 * float(q.abs().max())) for p, q in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_family_routes_skips_is_cut_saved_and_read(family: str, tmp_path: pathlib.Path) -> None:
    model = make(family)
    if family not in ("convnext", "resnet"):
        model.set_attn_implementation("eager")  # type: ignore[operator]
    plain = copy.deepcopy(model)
    net = tp.route(model, example={"pixel_values": X})
    full = tp.Path.full(net)

    fast = tp.skipping(net)
    sites = list(net.sites)
    mixed = tp.Path({s: torch.tensor([[i % 2 == 0], [i % 3 == 0]]) for i, s in enumerate(sites)})
    assert close(fast(X, mixed)[0], net(X, mixed)[0])

    last = net.sites[sites[-1]].modules
    part = full & tp.Path({sites[0]: [False]})  # part of a block, or a block
    whole = full & tp.Path({s: [False] for s in sites if net.sites[s].modules == last})
    for number, path in enumerate((part, whole, part & whole)):
        small: Any = tp.extract(net, path)
        assert close(small(X), net(X, path)[0])
        assert equal(pickle.loads(pickle.dumps(small))(X), small(X))
        small.save_pretrained(tmp_path / str(number))
        assert close(
            tp.from_pretrained(tmp_path / str(number))(X), small(X)
        )  # its attention is the library's choice again
        if path is whole:  # the configuration says it all
            assert close(type(small).from_pretrained(tmp_path / str(number)).eval()(X), small(X))

    asked: dict[str, Any] = {"output_hidden_states": True}
    if family not in ("convnext", "resnet"):
        asked["output_attentions"] = True
    if family != "clip":
        asked["labels"] = torch.tensor([1, 3])
    want = plain(X, **asked)
    assert equal(net(X, **asked)[0], want)
    assert equal(net(pixel_values=X, path=full, **asked)[0], want)
    assert equal(net({"pixel_values": X, **asked}, full)[0], want)
    assert equal(net((X,), full)[0], plain(X))
    assert equal(fast(X, full, **asked)[0], want) or close(fast(X, full, **asked)[0], want)
    assert equal(net(X, return_dict=False)[0], plain(X, return_dict=False))


@pytest.mark.parametrize("family", ["vit", "swin", "segformer"])
def test_depths_and_gates(family: str) -> None:
    plain = make(family)
    net = tp.route(make(family), tp.AdaptiveDepth(features="none"), example=X).eval()
    short = tp.Path({s: [False] for s in net.sites})
    with torch.no_grad():
        assert equal(net(X)[0], plain(X))
        assert close(tp.extract(net, short)(X), net(X, short)[0])
    gated = tp.route(make(family), tp.GatedBlocks(), example=X).train()
    gated(X)[0].logits.sum().backward()
    assert all(p.grad is not None for p in gated.deciders.parameters())
    survey = tp.survey(gated, [(X, torch.tensor([1, 3]))])
    assert survey.images.sum() == 2


def kept(run: Callable[[], Any]) -> int:
    """How many values a forward keeps for its backward pass."""
    count = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return count


def gradients(net: tp.Routed, path: tp.Path | None) -> dict[str, Tensor]:
    net.zero_grad()
    torch.manual_seed(5)  # of gates' noise and dropout
    y, trace = net(X, path=path)
    (y.logits.square().sum() + sum(d.z.mean() for d in trace.values())).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["vit", "dinov2"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(family: str, reentrant: bool) -> None:
    model: Any = make(family)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    asked = copy.deepcopy(model)
    asked.gradient_checkpointing_enable({"use_reentrant": reentrant})
    torch.manual_seed(0)
    net = tp.route(model, tp.GatedBlocks(), example=X).train()
    torch.manual_seed(0)
    before = tp.route(asked, tp.GatedBlocks(), example=X).train()
    closed = tp.Path({list(net.sites)[1]: [False]})
    plain, least = [gradients(net, path) for path in (None, closed)], kept(lambda: net(X)) / 2
    net.model.gradient_checkpointing_enable({"use_reentrant": reentrant})  # type: ignore[operator]
    for again in (net, before):
        assert kept(lambda again=again: again(X)) < least  # type: ignore[misc]
        for want, path in zip(plain, (None, closed), strict=True):
            got = gradients(again, path)
            assert got.keys() == want.keys()
            assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize(("family", "method"), [("vit", tp.GatedFilters()), ("swin", tp.GatedBlocks())])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_.*able` is deprecated")
def test_gradient_checkpointing_of_layers_that_are_routed_within_is_refused_and_its_remedy_works(
    family: str, method: tp.Method
) -> None:
    model: Any = make(family)
    net = tp.route(model, method, example=X).train()
    want = gradients(net, None)
    model.gradient_checkpointing_enable()
    with pytest.raises(CallError, match=r"gradient_checkpointing_disable\(\), and checkpoint the whole"):
        gradients(net, None)
    model.gradient_checkpointing_disable()
    net.zero_grad()
    torch.manual_seed(5)
    y, trace = checkpoint(net, X, None, use_reentrant=False)
    (y.logits.square().sum() + sum(d.z.mean() for d in trace.values())).backward()
    got = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("family", ["vit", "resnet"])
@torch.no_grad()
def test_a_cut_keeps_the_scores_of_some_classes_and_their_names(family: str, tmp_path: pathlib.Path) -> None:
    model = make(family)
    want = model(X).logits[:, [3, 1]]
    net = tp.route(model, example=X)
    small: Any = tp.extract(net, tp.Path.full(net), classes=[3, 1])
    small.save_pretrained(tmp_path)
    models: list[Any] = [small, type(small).from_pretrained(tmp_path).eval(), tp.from_pretrained(tmp_path)]
    for read in models:
        torch.testing.assert_close(read(X).logits, want)
        assert read.config.id2label == {0: "LABEL_3", 1: "LABEL_1"}
    assert torch.isfinite(small(X, labels=torch.tensor([0, 1])).loss)


def test_rows_of_several_tensors_that_a_model_returns_are_not_kept() -> None:
    net = tp.route(make("clip"), example=X)
    with pytest.raises(RouteError, match=r"returns 2 tensors, .* leave out classes="):
        tp.extract(net, tp.Path.full(net), classes=[1])
    tp.extract(net, tp.Path.full(net))


def test_an_exported_file_gives_the_answer(tmp_path: pathlib.Path) -> None:
    net = tp.route(make("vit"), tp.GatedBlocks(), example=X).eval()
    assert tp.export(net, tmp_path / "net.pt2", X).outputs == ("y", "open")
    path = tp.Path.full(net) & tp.Path({"vit.layers.1.mlp": [False]})
    assert tp.export(net, tmp_path / "cut.pt2", X, path=path).outputs == ("y",)


@pytest.mark.parametrize("family", ["vit", "dinov2"])
def test_a_file_for_any_batch_runs_attention_on_the_images_that_open_it(family: str, tmp_path: pathlib.Path) -> None:
    model = make(family)
    layers = next(m for m in model.modules() if isinstance(m, nn.ModuleList))
    del layers[1:]
    torch.manual_seed(0)
    net = tp.route(model, tp.GatedBlocks(), example=X).eval()
    site, gate = next(iter(net.deciders.items()))
    *_, weight, bias = gate.parameters()
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        weight.normal_()
        bias[-1] -= net(images)[1][site.replace("/", ".")].score.median() + 1e-4
        assert 0 < int(net(images)[1][site.replace("/", ".")].open.sum()) < 8
    made = tp.export(net, tmp_path / "net.pt2", images, batch="any")  # it is run on batches of several sizes
    assert site.replace("/", ".") not in made.one_sided


def test_a_family_that_adds_to_its_mask_is_exported_as_it_is_called(tmp_path: pathlib.Path) -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as MASKS

    def of_my_own(**kwargs: Any) -> None: ...

    library = dict(MASKS)
    MASKS["mine"] = of_my_own
    net = tp.route(make("beit"), example=X)
    path = tp.Path.full(net) & tp.Path({"beit.layers.1.mlp": [False]})
    assert tp.export(net, tmp_path / "cut.pt2", X, path=path).outputs == ("y",)
    assert dict(MASKS) == {**library, "mine": of_my_own}
    MASKS.pop("mine")
    assert dict(MASKS) == library


def test_a_folder_that_is_incomplete_or_says_something_else_is_refused(tmp_path: pathlib.Path) -> None:
    net = tp.route(make("vit"), example=X)
    small: Any = tp.extract(net, tp.Path.full(net) & tp.Path({"vit.layers.1.mlp": [False]}))
    small.save_pretrained(tmp_path)
    assert small.config.torchpaths["path"]
    config = tmp_path / "config.json"
    text = config.read_text()
    for old, new, said in (
        ("vit.layers.1.mlp", "vit.layers.7.mlp", "does not fit the network"),
        ("ViTForImageClassification", "os.system", "is no network of transformers"),
        ('"torchpaths"', '"nothing"', "holds no weights for"),
        ("{", "", "is no configuration"),
    ):
        config.write_text(text.replace(old, new, 1))
        with pytest.raises(DataError, match=said):
            tp.from_pretrained(tmp_path)
    with pytest.raises(DataError, match="is no configuration"):
        tp.from_pretrained(tmp_path / "elsewhere")


@pytest.mark.parametrize("example", [{"labels": 1}, {}, ("x",), 3])
def test_an_example_without_a_tensor_is_refused(example: Any) -> None:
    with pytest.raises(RouteError, match="give what the model takes"):
        tp.route(make("resnet"), example=example)


def test_a_call_without_a_tensor_is_refused() -> None:
    net = tp.route(make("resnet"), example=X)
    for args, named in (((), {}), (({},), {}), ((), {"labels": 3})):
        with pytest.raises(CallError, match="no tensor for a batch"):
            net(*args, **named)


class Kinds(nn.Module):
    """Blocks as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return x + self.f(x)
        assert isinstance(x, list)
        return [y + self.f(y) for y in x]


def test_a_block_that_asks_for_the_kind_of_its_input_comes_apart_and_refuses_another() -> None:
    x = torch.randn(2, 8)
    model = nn.Sequential(Kinds(), Kinds()).eval()
    want = model(x)
    net = tp.route(model, example=x)
    assert torch.equal(net(x)[0], want)
    with pytest.raises(CallError, match="was given a list and was routed with a tensor"):
        net([x[0], x[1]])


def _wrapped() -> dict[str, Callable[[nn.Module], Any]]:
    def quantised(model: nn.Module) -> Any:
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})  # type: ignore[no-untyped-call]

    return {
        "Route first, then wrap": nn.DataParallel,
        "_orig_mod": torch.compile,
        "scripted or traced": lambda model: torch.jit.trace(model, torch.randn(2, 8)),  # type: ignore[no-untyped-call]
        "quantised": quantised,
        "exported": lambda model: torch.export.export(model, (torch.randn(2, 8),)).module(),
    }


@pytest.mark.parametrize("said", _wrapped())
@pytest.mark.filterwarnings("ignore")
def test_what_was_done_to_a_model_before_is_said_with_what_to_do_instead(said: str) -> None:
    with pytest.raises(RouteError, match=said):
        tp.route(_wrapped()[said](nn.Sequential(Kinds(), Kinds()).eval()), example=torch.randn(2, 8))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Sequential(Kinds(), Kinds())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(x) - self.b(2 * x)
        return y


def test_a_part_that_runs_twice_is_named_and_the_way_out_works() -> None:
    x, model = torch.randn(2, 8), Pair().eval()
    want = model(x)
    with pytest.raises(RouteError, match=r"'b', of which it is a part, runs several times.*get_submodule\('b'\)"):
        tp.route(model, example=x)
    net = tp.route(model.get_submodule("b"), example=x)
    y, _ = net(torch.cat([x, 2 * x]))
    assert torch.allclose(y[:2] - y[2:], want, atol=1e-6)


def test_tied_weights_are_saved_by_no_unit_that_shares_them() -> None:
    model = nn.Sequential(*(Kinds() for _ in range(4)))
    for block in model[1:]:
        block.get_submodule("f").weight = model[0].get_submodule("f").weight
    net = tp.route(model, example=torch.randn(2, 8))
    one = tp.Path.full(net) & tp.Path({"3": [False]})
    assert one.cost(net).params == sum(p.numel() for p in tp.extract(net, one).parameters())
    assert tp.Path({s: [False] for s in net.sites}).cost(net).params == 0


def test_costs_of_a_network_with_another_head_are_said_to_be_old() -> None:
    net = tp.route(nn.Sequential(Kinds(), Kinds(), nn.Linear(8, 4)).eval(), example=torch.randn(2, 8))
    net.model.get_submodule("2")
    net.model._modules["2"] = nn.Linear(8, 2)
    with pytest.raises(Exception, match="costs are old"):
        tp.Path.full(net).cost(net)
    again = tp.route(tp.plain(net), example=torch.randn(2, 8))
    assert tp.Path.full(again).cost(again).params == sum(p.numel() for p in again.parameters())


LOSSES: dict[str, tuple[Callable[[Any, Any], Tensor], Tensor]] = {
    "cross_entropy": (torch.nn.functional.cross_entropy, torch.tensor([1, 3])),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), torch.rand(2, 5, generator=torch.Generator().manual_seed(2))),
    "mse_loss": (torch.nn.functional.mse_loss, torch.rand(2, 5, generator=torch.Generator().manual_seed(2))),
}


@pytest.mark.parametrize("method", [None, tp.GatedBlocks(), tp.AdaptiveDepth(features="none")])
def test_an_objective_takes_what_transformers_give_with_labels_beside_or_within(method: tp.Method | None) -> None:
    net = tp.route(make("vit"), method, example=X).eval()
    labels = LOSSES["cross_entropy"][1]
    objective = tp.Objective(net, method)
    beside = objective(X, labels)["task"]
    for batch in (
        {"pixel_values": X, "labels": labels},
        transformers.BatchFeature({"pixel_values": X, "labels": labels}),
    ):
        assert torch.equal(objective(batch)["task"], beside)
        assert torch.equal(next(objective.passes(batch))["task"], beside)
    with torch.no_grad():
        logits = net(X)[0].logits
    for task, target in LOSSES.values():
        found = tp.Objective(net, method, task=task)(X, target)["task"]
        share = 0.5 if isinstance(method, tp.AdaptiveDepth) else 1.0
        assert torch.allclose(found, share * task(logits, target))


def test_a_loss_of_several_outputs_says_how_it_is_told_which() -> None:
    net = tp.route(make("clip"), tp.GatedBlocks(), example=X).eval()
    target = torch.rand(2, 16)
    for task, named in ((None, "cross_entropy"), (nn.MSELoss(), "MSELoss")):
        with pytest.raises(RunError, match=rf"task=lambda outputs, target: {named}\(outputs\['image_embeds'\]"):
            tp.Objective(net, tp.GatedBlocks(), task=task)(X, target)
    with pytest.raises(RunError, match="got a NoneType"):
        tp.Objective(net, tp.GatedBlocks(), task=lambda y, t: tp.Objective(net, None).task(y["image_embeds"], t))(X)


def test_batches_of_a_processor_are_taken_to_shrink_and_to_measure_statistics() -> None:
    small: dict[str, Any] = {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [2, 2],
        "layer_type": "basic",
        "num_labels": 3,
    }
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(**small)).eval()
    batch = {"pixel_values": torch.randn(4, 3, 32, 32), "labels": torch.tensor([0, 1, 2, 0])}
    net = tp.route(model, tp.GatedBlocks(), example={"pixel_values": batch["pixel_values"]})
    before = copy.deepcopy(net.state_dict())
    tp.update_bn(net, [batch])
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert len(tp.shrink(net, [batch], tp.Budget(open=0.8)).steps) >= 1
