"""``Objective``: everything a training step computes, as one module, ``(x, y) -> {"task": loss, ...}``; and exact means
over the global batch.

Because every pass and loss happens in one ``forward``, DDP can wrap it and ``torch.compile`` compile it.

Some losses are not means over samples. ConvNet-AIG's target-rate loss (eq. 9) is ``(t - R)^2`` with R the rate over the
whole batch; averaging it over micro-batches or ranks is another loss, wrong by 110 % in one measurement, because it
punishes chance deviations of each part. With r the part's own rate,

    mean(r) = R + (r - r.detach())

has the value R and the gradient of r, so every part computes the same f(R), and the average of the parts' gradients,
``f'(R) mean(dr)``, is the gradient of f(R) of the whole batch, exactly, for parts of equal size. R is an all-reduce
over the ranks; under gradient accumulation a first pass without gradients, with the same noise, records r of each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.costs import evaluating
from torchpaths.errors import RunError, reason
from torchpaths.methods.base import Method, Task, losses, parts
from torchpaths.methods.task import CrossEntropy, check_classes, hearing, scores, shown
from torchpaths.methods.together import Together
from torchpaths.routed import Routed
from torchpaths.train.distributed import mean_over_ranks
from torchpaths.whole import is_whole


class WholeBatch:
    """Means over the global batch of one step: all micro-batches of all ranks, which must be of equal size.

    Without accumulation, ``WholeBatch()`` reduces over the ranks as it is called. With it, every micro-batch runs once
    inside ``with whole.recording(objective):``, then ``whole.settle()``, then every micro-batch again with gradients
    and the same noise. A quantity given to it must not depend on another mean: in the first pass that one is not known
    yet.
    """

    def __init__(self) -> None:
        self._recording = False
        self._part: dict[str, Tensor] = {}
        self._parts: list[dict[str, Tensor]] = []
        self._means: dict[str, Tensor] | None = None

    def __call__(self, name: str, local: Tensor) -> Tensor:
        """``local``'s mean over the global batch, with the gradient of ``local``. Same shape as ``local``.

        Raises:
            RunError: if the recorded pass did not ask for ``name``.
        """
        if self._recording:
            self._part[name] = local.detach()
            return local
        if self._means is None:
            whole = mean_over_ranks(local)
        elif name in self._means:
            whole = self._means[name]
        else:
            raise RunError(
                f"the mean {name!r} was not asked for in the first pass over the micro-batches (only "
                f"{', '.join(self._means) or 'none'}): a method's losses must ask for the same means in every pass."
            )
        return whole + (local - local.detach())

    @contextmanager
    def recording(self, net: nn.Module) -> Iterator[None]:
        """A micro-batch's first pass: no gradients, and the buffers (running statistics) of ``net``, an objective or a
        network, do not move."""
        buffers = list(net.buffers())
        before = [b.clone() for b in buffers]
        # A fresh dict for every pass: its (empty) shape is what a compiled forward depends on.
        self._part, self._recording = {}, True
        try:
            with torch.no_grad():
                yield
        finally:
            self._recording = False
            with torch.no_grad():
                for buffer, old in zip(buffers, before, strict=True):
                    buffer.copy_(old)
        self._parts.append(self._part)

    def settle(self) -> bool:
        """Ends the first pass: means over what was recorded and over the ranks.

        Returns:
            Whether any mean was asked for. If not, the losses are plain averages and the first pass can be left out.
        """
        names = self._parts[0] if self._parts else {}
        self._means = {name: mean_over_ranks(torch.stack([p[name] for p in self._parts]).mean(0)) for name in names}
        return bool(self._means)


class Objective(nn.Module):
    """A routed network and a method as one differentiable function of a batch.

    What the losses alone need, such as class heads, belongs to it and never to the network: its parameters are those of
    both, an optimizer of ``objective.parameters()`` trains both.

    Attributes:
        net: the network.
        method: see below.
        task: the task's loss: `torchpaths.methods.task.CrossEntropy`, or the one given. Parameters of its own, if it is
            a module, are the objective's.
        heard: the same as it is called, see `torchpaths.methods.task.hearing`.
        heads: what the method's losses need beside the network, on its device and in its dtype; None for nothing.
    """

    def __init__(
        self,
        net: Routed,
        method: Method | Sequence[Method] | None,
        smoothing: float = 0.0,
        classes: int | None = None,
        task: Task | None = None,
        labels: Callable[[Any], Tensor] | None = None,
    ) -> None:
        """
        Args:
            net: the network.
            method: whose losses to compute, one or several as in `route`; None for the plain network's task loss.
            smoothing: label smoothing of the cross-entropy, in [0, 1).
            classes: of the task, where the method has heads; None counts the network's outputs by running it once on
                zeros.
            task: the task's loss, any function (outputs, target) -> scalar, a mean over the batch: outputs as the
                network gives them (a loss of torch's own gets their ``logits``, where they are several things by name),
                target as a call is given it. None for the classifier's cross-entropy.
            labels: target -> the class of each image, int64 ``[B]``, for a method whose losses need it while targets
                are something else. None: the targets are the classes.

        Raises:
            RunError: if heads are wanted and the network's outputs cannot be counted, or are fewer than two, as
                ``classes`` may be; for a task that is no function, or smoothing of one.
        """
        super().__init__()
        if task is not None and (not callable(task) or isinstance(task, type)):
            raise RunError(
                f"task={task!r}: give a function (outputs, target) -> scalar, torch.nn.functional.mse_loss say."
            )
        if task is not None and smoothing:
            raise RunError(f"smoothing={smoothing:g} is the cross-entropy's; smooth the labels in the task's own loss.")
        if classes is not None and not is_whole(classes, 2):
            raise RunError(f"classes={classes!r}: class heads tell classes apart; give how many there are, at least 2.")
        if isinstance(method, Sequence):
            method = Together(tuple(method))
        self.net = net
        self.method = method
        self.task: Task = CrossEntropy(smoothing) if task is None else task
        self.heard = hearing(self.task)
        self.labels = labels
        heads = None
        if method is not None and method.headed:
            heads = method.heads(net, _outputs(net, method) if classes is None else classes)
        like = next((p for p in net.parameters() if p.is_floating_point()), None)
        self.heads = heads if heads is None or like is None else heads.to(like.device, like.dtype)

    def forward(self, x: Any, y: Any = None, whole: WholeBatch | None = None) -> dict[str, Tensor]:
        """
        Args:
            x: images ``[B, C, H, W]``, or what else the network is called with, such as a dictionary.
            y: labels, int64 ``[B]``, or whatever the task's loss takes for a target. None: the ``labels`` in a
                dictionary ``x``, as batches for transformers have them.
            whole: means over the global batch; None where this batch is all this rank has in this step.

        Returns:
            Weighted scalar losses by name, always with "task"; train on their sum, averaged over parts and ranks.

        Raises:
            RunError: for outputs and targets that do not go with the classifier's loss, see
                `torchpaths.methods.task.CrossEntropy`, or labels that do not go with a method's.
        """
        y = _target(x, y)
        if self.method is None:
            outputs, _ = self.net(x)
            return _scalars({"task": self.heard(outputs, y)})
        mean = whole if whole is not None else WholeBatch()
        return _scalars(losses(self.method, self.net, x, y, self.heard, mean, self.heads, self._labels(x, y)))

    def passes(self, x: Any, y: Any = None, whole: WholeBatch | None = None) -> Iterator[dict[str, Tensor]]:
        """The same losses in parts, for less memory: run the backward pass of each before asking for the next.

        For a training step that neither DDP nor ``torch.compile`` wraps: they know only `forward`. See `Method.passes`.
        """
        if self.method is None:
            yield self(x, y, whole)
        else:
            y = _target(x, y)
            mean = whole if whole is not None else WholeBatch()
            for part in parts(self.method, self.net, x, y, self.heard, mean, self.heads, self._labels(x, y)):
                yield _scalars(part)

    def _labels(self, x: Any, y: Any) -> Any:
        """The class of each image, looked at, where the method's losses need it; else None."""
        method = self.method
        classes = None if method is None else method.labelled(self.net, self.heads)
        if method is None or classes is None:
            return None
        labels = y if self.labels is None else self.labels(y)
        count = len(x) if isinstance(x, Tensor) else len(labels) if isinstance(labels, Tensor) and labels.dim() else 1
        who = f"{' and '.join(method.names)} (the loss of each image's class)"
        remedy = (
            "where targets are something else, say how the classes are found in them, "
            f"Objective(..., labels=lambda target: ...), or {method.unlabelled}"
        )
        check_classes(labels, classes, [count], who, remedy, getattr(self.task, "looks", True))
        return labels


def _target(x: Any, y: Any) -> Any:
    """The target of a batch that may hold it itself."""
    return x.get("labels") if y is None and isinstance(x, Mapping) else y


def _scalars(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Terms of a loss, if all are scalars."""
    for name, loss in part.items():
        if not isinstance(loss, Tensor) or loss.dim():
            raise RunError(f"the loss {name!r} is {shown(loss)}, not a scalar tensor: take its mean over the batch.")
    return part


def _outputs(net: Routed, method: Method) -> int:
    """How many classes a network tells apart, by running it on one image of zeros."""
    remedy = f"say how many classes there are, Objective(net, method, classes=10), or {method.unlabelled}"
    if not net.example_shape:
        raise RunError(f"the size of this network's images is not known, so its outputs cannot be counted; {remedy}.")
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    x = like.new_zeros(1, *net.example_shape)
    try:
        # What is drawn by chance in evaluation must not move what is drawn after it.
        with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(net):
            y = scores(net(x)[0])
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise RunError(
            f"this network does not run on zeros of {list(x.shape)} ({reason(error)}), so its outputs cannot be "
            f"counted; {remedy}."
        ) from error
    if not isinstance(y, Tensor) or y.dim() != 2:
        raise RunError(f"this network gives {shown(y)} for one image, not one score for each class; {remedy}.")
    if y.shape[1] < 2:
        raise RunError(f"this network gives one output, and class heads tell classes apart; {remedy}.")
    return y.shape[1]


def backward(
    parts: Iterator[dict[str, Tensor]],
    share: float = 1.0,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> dict[str, Tensor]:
    """Add the gradients of all parts of a loss, one graph after the other.

    Args:
        parts: as `Objective.passes` gives them.
        share: factor of all of them.
        context: in which each is computed, but not its backward pass: autocast.
        scaled: what is done to each part's loss before its backward pass.

    Returns:
        Every term, without gradient.
    """
    found: dict[str, Tensor] = {}
    while True:
        with context():
            part = next(parts, None)
        if part is None:
            return found
        scaled(total(part.values()) * share).backward()  # type: ignore[no-untyped-call]
        found |= {name: loss.detach() for name, loss in part.items()}


def total(losses: Iterable[Tensor]) -> Tensor:
    """The sum that is trained on."""
    return torch.stack([loss.float() for loss in losses]).sum()
