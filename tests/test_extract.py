"""A network cut along a path: smaller, the library's own again where it can be, compared before it is given away."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, ResNet

import laws
import torchpaths as tp
from block_toys import WIDTH, Bare, Basic, PreActivation, chain
from torchpaths.errors import PathError, RouteError
from torchpaths.places.residual.along import rectified_junctions
from toys import toy


def resnet(*blocks: int) -> tuple[tp.Routed, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    return tp.route(ResNet(BasicBlock, list(blocks), num_classes=5).eval(), example=x), x


def closing(net: tp.Routed, *sites: str) -> tp.Path:
    """Everything open but these."""
    assert set(sites) <= set(net.sites)
    return tp.Path({site: site not in sites for site in net.sites}, net.layout.fingerprint)


def same(net: tp.Routed, cut: nn.Module, path: tp.Path, x: Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(cut(x), net(x, path)[0])


def test_closed_blocks_of_a_resnet_are_gone_and_the_rest_is_the_librarys_network_of_fewer_blocks() -> None:
    net, x = resnet(2, 3, 1, 1)
    path = closing(net, "layer1.1", "layer2.1")
    cut = tp.extract(net, path)
    smaller = ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5).eval()
    assert str(cut) == str(smaller)
    smaller.load_state_dict(cut.state_dict())  # strictly
    assert same(net, smaller, path, x)


def test_blocks_with_names_that_end_in_numbers_move_up() -> None:
    net, x = tp.route(toy("torchvision/vit")[0], example=toy("torchvision/vit")[1]), toy("torchvision/vit")[1]
    first = [site for site in net.sites if "layer_0" in site]
    path = closing(net, *first)
    smaller = VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5).eval()
    smaller.load_state_dict(tp.extract(net, path).state_dict())
    assert same(net, smaller, path, x)


def test_a_block_with_one_of_two_sums_closed_keeps_only_the_other_sums_children() -> None:
    model, x = toy("torchvision/vit")
    net = tp.route(model, example=x)
    path = closing(net, "encoder.layers.encoder_layer_1.self_attention")
    cut = tp.extract(net, path)
    left = {name for name, _ in cut.get_submodule("encoder.layers.encoder_layer_1").named_children()}
    assert left == {"ln_2", "mlp"}
    assert set(cut.state_dict()) < set(net.model.state_dict())


def sequence(*modules: nn.Module) -> tuple[tp.Routed, Tensor]:
    """Modules in a row behind a convolution, whose output has negative values."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    net = tp.route(nn.Sequential(nn.Conv2d(3, WIDTH, 3), *modules).eval(), example=x)
    return net, x


def test_a_closed_blocks_relu_goes_only_where_its_input_is_known_to_be_a_relus_output() -> None:
    for before, gone in ((nn.ReLU(), True), (Basic(), True), (nn.ReLU6(), False), (Bare(), False), (nn.Tanh(), False)):
        net, x = sequence(before, Basic())
        path = closing(net, "2")
        cut = tp.extract(net, path)
        assert same(net, cut, path, x)
        assert len(list(cut.children())) == (2 if gone else 3), before
    net, x = sequence(Basic(), Basic(), Basic())
    path = ~tp.Path.full(net)
    cut = tp.extract(net, path)
    assert same(net, cut, path, x)
    assert len(list(cut.children())) == 2, "the first closed block's ReLU is needed, the other two's are not"


def test_what_a_container_of_its_own_forward_does_between_blocks_is_not_taken_for_a_chain() -> None:
    class Between(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            for module in self:
                input = module(input) - 1
            return input

    torch.manual_seed(0)
    x = torch.randn(2, WIDTH, 6, 6)
    net = tp.route(Between(Basic(), Basic()).eval(), example=x)
    assert rectified_junctions(net.model) == set()
    path = closing(net, "1")
    assert same(net, tp.extract(net, path), path, x)
    assert same(net, tp.plain(net, path), path, x)


class Reusing(nn.Module):
    """The stem's output is needed again after the blocks, and what follows them writes in place."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*blocks)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        return torch.cat([self.relu(self.blocks(a)), a], 1)


@pytest.mark.parametrize("make", [Basic, Bare, PreActivation])
def test_a_block_that_is_gone_lets_nobody_overwrite_its_input(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    net = tp.route(Reusing(make(), make()).eval(), example=x)
    for path in (~tp.Path.full(net), closing(net, "blocks.0"), closing(net, "blocks.1")):
        assert same(net, tp.plain(net, path), path, x)
        assert same(net, tp.extract(net, path), path, x)


class Listed(nn.Module):
    """Blocks in a ModuleList, run in a way that stands their number changing or not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(Bare() for _ in range(3))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.how == "each":
            for block in self.blocks:
                x = block(x)
        elif self.how == "counted":
            for i in range(3):
                x = self.blocks[i](x)
        else:
            for scale, block in zip((1, 2, 3), self.blocks, strict=False):
                x = scale * block(x)
        return x


@pytest.mark.parametrize(("how", "blocks"), [("each", 2), ("counted", 3), ("scaled", 3)])
def test_blocks_are_taken_out_of_a_list_unless_something_counts_on_their_number(how: str, blocks: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    net = tp.route(Listed(how).eval(), example=x)
    path = closing(net, "blocks.1")
    cut = tp.extract(net, path)
    assert same(net, cut, path, x)
    found = cut.blocks
    assert isinstance(found, nn.ModuleList)
    assert len(found) == blocks
    assert [type(block) for block in found].count(nn.Identity) == blocks - 2


class Told(nn.Module):
    """Tells its block, whose shortcut also computes something, the image's size; the block's way depends on it."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.norm = nn.GroupNorm(1, WIDTH)

        def forward(self, x: Tensor, size: tuple[int, int], scale: float = 1.0) -> Tensor:
            height, width = size
            image = x.view(x.shape[0], WIDTH, height, width)
            s = self.norm(image)
            if height % 2 == 0:
                s = s + 1
            y: Tensor = s + scale * self.conv(s)
            return y.flatten(2)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.block = Told.Block()
        self.more: dict[str, float] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y: Tensor = self.block(x.flatten(2), x.shape[2:], **self.more)
        return y


def test_a_cut_block_is_told_what_the_block_was_told_and_refuses_what_it_was_not_cut_for() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    net = tp.route(Told().eval(), example=x)
    path = ~tp.Path.full(net)
    cut = tp.extract(net, path)
    for shape in ((8, 8), (4, 6)):
        other = torch.randn(3, 3, *shape)
        assert same(net, cut, path, other)
    with pytest.raises(AssertionError, match="Block was cut for inputs of another shape"):
        cut(torch.randn(2, 3, 7, 8))
    assert isinstance(cut, Told)
    cut.more = {"scale": 2.0}
    with pytest.raises(AssertionError, match="Block was cut for calls without scale"):
        cut(x)


def test_a_block_given_by_hand_is_cut_as_well() -> None:
    model, x = chain(block1=Basic(), block2=Bare())
    given = tp.Residual(
        branch=lambda block, x: block.bn(block.conv(x)), shortcut=lambda _, x: x, post=lambda block, x: block.relu(x)
    )
    net = tp.route(model, example=x, residuals={"block1": given})
    for path in (closing(net, "block1"), closing(net, "block2"), ~tp.Path.full(net)):
        assert same(net, tp.extract(net, path), path, x)


def test_a_block_given_by_hand_that_depends_on_values_is_refused_with_its_class() -> None:
    model, x = chain(block1=Basic(), block2=Bare())
    given = tp.Residual(
        branch=lambda block, x: block.conv(x), shortcut=lambda block, x: x if x.mean() < 9 else -x, post=lambda _, x: x
    )
    net = tp.route(model, example=x, residuals={"block2": given})
    with pytest.raises(RouteError, match=r"block of class Bare cannot be traced.*may not depend on values"):
        tp.extract(net, closing(net, "block2"))
    assert same(net, tp.extract(net, tp.Path.full(net)), tp.Path.full(net), x)


@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/vit"])
def test_a_cut_network_compiles_as_one_graph_and_copies(name: str) -> None:
    model, x = toy(name)
    net = tp.route(model, example=x)
    path = laws.random_path(net)
    cut = tp.extract(net, path)
    assert any(isinstance(m, fx.GraphModule) for m in cut.modules()), "the case that is not trivial"
    torch._dynamo.reset()
    compiled = torch.compile(cut, backend="aot_eager", fullgraph=True)
    exported = torch.export.export(cut, (x,)).module()
    copies = [copy.deepcopy(cut), pickle.loads(pickle.dumps(cut))]
    assert all(list(other.state_dict()) == list(cut.state_dict()) for other in copies)
    with torch.no_grad():
        for other in (*copies, compiled, exported):
            torch.testing.assert_close(other(x), cut(x), rtol=1e-5, atol=1e-5)


def test_a_cut_network_is_opened_where_torchpaths_is_not_installed(tmp_path: Path) -> None:
    model, x = toy("torchvision/resnet")
    net = tp.route(model, example=x)
    path = ~tp.Path.full(net)
    torch.save({"model": tp.extract(net, path), "x": x, "y": net(x, path)[0]}, tmp_path / "cut.pt")
    code = (
        "import sys; sys.modules['torchpaths'] = None\n"
        "import torch; d = torch.load(sys.argv[1], weights_only=False)\n"
        "sys.exit(not torch.equal(d['model'](d['x']), d['y']))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "cut.pt"], check=False).returncode == 0


def test_cutting_leaves_modes_as_they_are_and_hands_them_on() -> None:
    net, _ = resnet(1, 2, 1, 1)
    net.train()
    net.model.get_submodule("layer2").eval()
    before = {name: module.training for name, module in net.named_modules()}
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    cut = tp.extract(net, closing(net, "layer2.0", "layer3.0"))
    assert {name: module.training for name, module in net.named_modules()} == before
    assert all(torch.equal(value, statistics[name]) for name, value in net.named_buffers())
    assert {m.training for m in cut.get_submodule("layer2").modules()} == {False}
    assert {m.training for m in cut.get_submodule("layer3").modules()} == {True}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_comparison_is_made_in_the_precision_of_the_network(dtype: torch.dtype) -> None:
    net, x = resnet(1, 2, 1, 1)
    net.to(dtype)
    path = closing(net, "layer2.1", "layer4.0")
    cut = tp.extract(net, path)
    assert {p.dtype for p in cut.parameters()} == {dtype}
    assert same(net, cut, path, x.to(dtype))


def test_a_plain_network_shares_its_weights_with_the_routed_one_and_is_another_tree() -> None:
    net, x = resnet(1, 2, 1, 1)
    path = closing(net, "layer2.1")
    smaller, full = tp.plain(net, path), tp.plain(net)
    assert list(full.state_dict()) == list(net.model.state_dict())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    assert same(net, smaller, path, x)
    assert same(net, full, tp.Path.full(net), x)
    full.train()
    assert not any(module.training for module in (*net.modules(), *smaller.modules()))
    assert isinstance(smaller.get_submodule("layer2.1"), nn.Identity), "names stay as they were"


def test_the_shape_of_the_example_survives_copies() -> None:
    net, _ = resnet(1, 1, 1, 1)
    assert net.example_shape == (3, 32, 32)
    assert pickle.loads(pickle.dumps(net)).example_shape == copy.deepcopy(net).example_shape == (3, 32, 32)


def test_a_per_sample_path_is_refused_with_the_way_to_pick_one() -> None:
    net, x = resnet(1, 1, 1, 1)
    path = tp.Path.of(net(x)[1])
    for cutting in (tp.extract, tp.plain):
        with pytest.raises(PathError, match=r"a path for 2 samples.*take one sample's: path\[0\]"):
            cutting(net, path)
        assert cutting(net, path[0]) is not None


def test_a_path_that_does_not_fit_or_leaves_sites_to_decide_is_refused() -> None:
    net, _ = resnet(1, 2, 1, 1)
    other, _ = resnet(2, 1, 1, 1)
    with pytest.raises(PathError, match=r"names site 'layer1.1', which ResNet does not have"):
        tp.extract(net, tp.Path.full(other))
    with pytest.raises(PathError, match="the path was made for network"):
        tp.extract(net, tp.Path(dict(tp.Path.full(net)), "0123456789abcdef"))
    partial = tp.Path({"layer1.0": False})
    with pytest.raises(PathError, match=r"leaves 4 sites to decide.*\(layer2.0, .*path & Path.full\(net\)"):
        tp.extract(net, partial)
    assert len(list(tp.extract(net, partial & tp.Path.full(net)).parameters())) < len(list(net.parameters()))


def test_an_example_of_the_wrong_shape_is_refused_and_one_of_the_right_shape_taken() -> None:
    net, x = resnet(1, 1, 1, 1)
    with pytest.raises(RouteError, match=r"the routed ResNet does not take the example of shape \(2, 1, 32, 32\)"):
        tp.extract(net, tp.Path.full(net), example=x[:, :1])
    tp.extract(net, tp.Path.full(net), example=torch.randn(1, 3, 40, 24))


def test_a_network_made_by_hand_asks_for_an_example() -> None:
    net, x = resnet(1, 1, 1, 1)
    made = tp.Routed(net.model, tuple(net.sites.values()), net.layout)
    with pytest.raises(RouteError, match=r"does not know what its images look like; give extract\(net, path, example"):
        tp.extract(made, tp.Path.full(net))
    tp.extract(made, tp.Path.full(net), example=x)


def test_weights_that_are_not_numbers_do_not_pass_for_equal() -> None:
    net, _ = resnet(1, 1, 1, 1)
    assert isinstance(net.model, ResNet)
    net.model.fc.bias.data[0] = torch.nan
    with pytest.raises(RouteError, match=r"not finite.*its weights have diverged"):
        tp.extract(net, tp.Path.full(net))


class Chancy(nn.Module):
    """Drops values in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.block = Bare()

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.block(self.stem(x)), 0.5, training=True)


def test_a_cut_network_that_differs_is_not_returned() -> None:
    torch.manual_seed(0)
    net = tp.route(Chancy(), example=torch.randn(2, 3, 8, 8))
    with pytest.raises(RouteError, match=r"the cut Chancy differs .* times as much as allowed"):
        tp.extract(net, tp.Path.full(net))
