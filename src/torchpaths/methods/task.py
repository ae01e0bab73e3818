"""The task's loss: a classifier's, with its batch looked at first, and what a loss of one's own tells of the outputs.

``cross_entropy`` accepts much that means nothing: one output (its loss is 0 whatever the target), a regression's
targets where they happen to have the outputs' shape, on a GPU a label out of range (which ends the process later on).
So the classifier's loss checks its batch, and says how another loss is given.

`Objective` takes any function ``(outputs, target) -> scalar``. A method that compares two outputs with one another
(AdaptiveDepth) needs to know what they are: scores of classes, of labels each for itself, or values.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.errors import RunError
from torchpaths.outputs import PROBABILITIES, TWO_SCORES, are_probabilities
from torchpaths.trace import transformed

Kind: TypeAlias = Literal["classes", "labels", "values"]
"""What outputs are: scores of classes along axis 1, of which one is right; scores of labels each for itself; values."""

_OWN = (
    "for another task give a loss of your own, Objective(net, method, task=torch.nn.functional.mse_loss) for a "
    "regression, binary_cross_entropy_with_logits for labels that do not exclude one another, or any function "
    "(outputs, target) -> scalar"
)
_IGNORED = -100

_KINDS: dict[Any, Kind] = {
    functional.cross_entropy: "classes",
    functional.nll_loss: "classes",
    nn.CrossEntropyLoss: "classes",
    nn.NLLLoss: "classes",
    functional.binary_cross_entropy_with_logits: "labels",
    functional.multilabel_soft_margin_loss: "labels",
    nn.BCEWithLogitsLoss: "labels",
    nn.MultiLabelSoftMarginLoss: "labels",
    functional.mse_loss: "values",
    functional.l1_loss: "values",
    functional.smooth_l1_loss: "values",
    functional.huber_loss: "values",
    nn.MSELoss: "values",
    nn.L1Loss: "values",
    nn.SmoothL1Loss: "values",
    nn.HuberLoss: "values",
}


class CrossEntropy:
    """The classifier's loss: scores ``[N, C]`` or ``[N, C, ...]`` and class numbers ``[N]`` or ``[N, ...]``, -100 where
    nothing is known; or a distribution over classes of the scores' shape. A mean over all that is known.

    Attributes:
        smoothing: label smoothing, in [0, 1).
        looks: whether labels on an accelerator are looked at as well, for which the host waits once a call. Where they
            came from a data set that was checked there is no need.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing
        self.looks = True
        self._asked = False

    def __call__(self, outputs: Any, target: Any) -> Tensor:
        """
        Raises:
            RunError: where the outputs are no scores of at least two classes, or the target does not go with them.
        """
        found = scores(outputs)
        if not isinstance(found, Tensor):
            raise RunError(
                f"a classifier's loss wants one tensor of scores, the network gives {shown(outputs)}; "
                f"{_chosen(outputs)}{_OWN}."
            )
        if found.dim() < 2 or found.shape[1] < 2:
            two = f"{TWO_SCORES}; " if found.dim() == 2 else ""
            raise RunError(
                f"a classifier's loss wants scores [batch, class, ...] of at least two classes, the network gives "
                f"{list(found.shape)}; {two}{_OWN}."
            )
        if not self._asked and readable(found):  # once, since an accelerator is waited for
            self._asked = True
            if are_probabilities(found):
                warnings.warn(PROBABILITIES, stacklevel=2)
        if isinstance(target, Tensor) and target.is_floating_point() and target.shape == found.shape:
            whole = (target >= 0).all(1) & ((target.sum(1) - 1).abs() < 0.01)
            if readable(target, self.looks) and not bool(whole.all()):
                raise RunError(
                    f"targets of the scores' shape {list(found.shape)} are shares of the classes, and these are "
                    f"negative or do not sum to 1; {_OWN}."
                )
        else:
            positions = [found.shape[0], *found.shape[2:]]
            check_classes(target, found.shape[1], positions, "a classifier's loss", _OWN, self.looks)
            target = target.long()
        return functional.cross_entropy(found, target, label_smoothing=self.smoothing)


class OfScores:
    """A library's loss, which knows tensors only, of a network that returns several things by name: of its
    "logits".

    Attributes:
        func: the loss.
    """

    def __init__(self, func: Callable[[Any, Any], Tensor]) -> None:
        self.func = func

    def __call__(self, outputs: Any, target: Any) -> Tensor:
        """
        Raises:
            RunError: where the outputs are no tensor and none of them is called "logits".
        """
        found = scores(outputs)
        if not isinstance(found, Tensor):
            raise RunError(
                f"{_name(self.func)} wants one tensor, the network gives {shown(outputs)}; "
                f"{_chosen(outputs, _name(self.func))}any function (outputs, target) -> scalar can be given as task."
            )
        return self.func(found, target)


def hearing(task: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """A task's loss as it is called: one of torch's own, of torchvision's or timm's is given the scores; others the
    outputs as they are."""
    bare = task
    while isinstance(bare, functools.partial):
        bare = bare.func
    home = type(bare).__module__ if isinstance(bare, nn.Module) else getattr(bare, "__module__", None) or ""
    return OfScores(task) if home.partition(".")[0] in ("torch", "torchvision", "timm") else task


def _name(task: Any) -> str:
    bare = task.func if isinstance(task, functools.partial) else task
    return getattr(bare, "__name__", type(bare).__name__)


def _chosen(outputs: Any, loss: str = "cross_entropy") -> str:
    """How a loss is told which of several outputs it is of, for an error."""
    tensors = (
        [key for key, value in outputs.items() if isinstance(value, Tensor)] if isinstance(outputs, Mapping) else []
    )
    if not tensors:
        return ""
    return f"say which, task=lambda outputs, target: {loss}(outputs[{tensors[0]!r}], target), or "


def check_classes(target: Any, classes: int, shape: list[int], who: str, remedy: str, looks: bool = True) -> None:
    """Targets that are to be class numbers, looked at.

    Args:
        target: what was given.
        classes: how many there are.
        shape: they must have.
        who: wants them, for the error.
        remedy: what to do instead.
        looks: see `CrossEntropy`.

    Raises:
        RunError: if they are none, or lie outside the classes.
    """
    whole = isinstance(target, Tensor) and not (
        target.is_floating_point() or target.is_complex() or target.dtype == torch.bool
    )
    if not whole or list(target.shape) != shape:
        raise RunError(
            f"{who} wants class numbers, whole numbers {shape} from 0 to {classes - 1}, and got {shown(target)}; "
            f"{remedy}."
        )
    if not target.numel() or not readable(target, looks):
        return
    wrong = (target != _IGNORED) & ((target < 0) | (target >= classes))
    if bool(wrong.any()):
        value = int(target[wrong][0])
        cures = (
            "where 255 marks what is not known, write -100 there: target[target == 255] = -100"
            if value == 255
            else "numbers begin at 0; give the model as many outputs as there are classes"
        )
        raise RunError(
            f"label {value} is none of the {classes} classes that {who} knows, 0 to {classes - 1} (and -100 for what "
            f"does not count); {cures}."
        )


def readable(tensor: Tensor, looks: bool = True) -> bool:
    """Whether its values can be read here: not while tracing, mapping or differentiating as a function, and on an
    accelerator only if it ``looks``."""
    if torch.compiler.is_compiling() or tensor.is_meta or transformed():
        return False
    return looks or tensor.device.type == "cpu"


def scores(outputs: Any) -> Any:
    """The scores in a network's outputs: of several things by name those called "logits", as transformers has it."""
    return outputs["logits"] if isinstance(outputs, Mapping) and "logits" in outputs else outputs


def kind_of(task: Callable[[Any, Any], Tensor]) -> Kind | None:
    """What outputs a loss is for, where it is one of torch's, bare, with arguments bound, or as a module; else None."""
    while isinstance(task, (functools.partial, OfScores)):
        task = task.func
    if isinstance(task, CrossEntropy):
        return "classes"
    return _KINDS.get(type(task)) if isinstance(task, nn.Module) else _KINDS.get(task)


def shown(value: Any) -> str:
    """What was given, for an error: "float32 [4, 1]", "a dict of 'a', 'b'", "a list"."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(repr(key) for key in list(value)[:4])}"
    return f"a {type(value).__name__}"
