"""A network that ends in a softmax: its probabilities are taken as they are, and losses of scores warn once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from shared import encode, pictures
from torchpaths.attacks import Pixels, fgsm
from torchpaths.methods.task import CrossEntropy
from torchpaths.outputs import are_probabilities, as_scores
from torchpaths.train.folder import load_run
from torchpaths.train.predict import predict
from torchpaths.train.run import train
from train_toys import tiny


class Soft(nn.Module):
    """A network, and a softmax behind it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x).softmax(1)
        return found


def test_probabilities_are_told_from_scores() -> None:
    scores = 9 * torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    assert are_probabilities(scores.softmax(1))
    torch.testing.assert_close(as_scores(scores.softmax(1)).softmax(1), scores.softmax(1))
    for other in (scores, scores.abs(), scores.sigmoid(), scores.log_softmax(1), torch.ones(8, 1), torch.ones(0, 5)):
        assert not are_probabilities(other)
        assert as_scores(other) is other


def test_predict_is_as_sure_as_the_network_that_ends_in_a_softmax(tmp_path: Path) -> None:
    train(tiny(model="cifar_resnet14"), tmp_path / "run", quiet=True)
    (tmp_path / "a.png").write_bytes(encode(pictures(1, 8, 8, seed=0)[0]))
    run = load_run(tmp_path / "run")
    [said] = predict(run, [tmp_path / "a.png"])
    run.net.register_forward_hook(lambda _, __, given: (given[0].softmax(1), given[1]))
    [same] = predict(run, [tmp_path / "a.png"])
    assert are_probabilities(torch.from_numpy(same.scores)[None])
    torch.testing.assert_close(torch.from_numpy(same.probabilities), torch.from_numpy(said.probabilities))


def test_the_loss_and_attacks_warn_once_of_probabilities_and_never_of_scores() -> None:
    torch.manual_seed(0)
    model = tp.models.cifar_resnet(14, classes=4, channels=1).eval()
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    loss, pixels = CrossEntropy(), Pixels(tp.route(Soft(model).eval(), tp.GatedBlocks(), example=x))
    asks: list[Callable[[], object]] = [lambda: loss(Soft(model)(x), y), lambda: fgsm(pixels, x, y, 0.1)]
    for ask in asks:
        with pytest.warns(UserWarning, match="leave the network's last softmax out"):
            ask()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CrossEntropy()(model(x), y)
        plain = tp.models.cifar_resnet(14, classes=4, channels=1).eval()
        fgsm(Pixels(tp.route(plain, tp.GatedBlocks(), example=x)), x, y, 0.1)
