"""From a timm model to one network of many depths: train it, look at its menu, choose by time, cut one depth out.

python examples/adaptive_depth.py
"""

from __future__ import annotations

import timm
import torch

import torchpaths as tp
from torchpaths.data import Loader, open_data


def main(epochs: int = 10) -> tp.Front:
    torch.manual_seed(0)
    train, test = (open_data("digits", split, size=32) for split in ("train", "test"))
    normal = {"mean": train.mean, "std": train.std}
    loader = Loader(train, 64, shuffle=True, drop_last=True, **normal)
    example, _ = next(iter(loader))

    # The last blocks of each stage become a unit that can be left out; the others get norms for when they are.
    method = tp.AdaptiveDepth()
    model = timm.create_model("resnet18", num_classes=10, in_chans=1, channels=(16, 32, 64, 128))
    net = tp.route(model, method, example=example)
    print(net)

    # Each step: the whole network learns from the labels, the shortest one from the whole network.
    objective = tp.Objective(net, method).train()
    steps = epochs * len(loader)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        for x, y in loader.epoch(epoch):
            for losses in objective.passes(x, y):
                torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    # Every depth, measured on this device: those that no other beats in accuracy, MACs and milliseconds.
    net.eval()
    front = tp.front(net, Loader(test, 256, **normal), batch=1)
    for point in front.menu(front.profiles[0]):
        left_out = [site for site in net.sites if point.path is not None and not point.path[site][0]]
        print(f"{point.accuracy:.1%}, {point.macs / 1e6:.2f} M MACs, {point.ms:.2f} ms without {left_out or 'nothing'}")

    # A budget chooses; changing to another depth is one argument. Or take one home as a plain, smaller timm model.
    chosen = front.best(tp.Budget(macs=0.8))
    logits, _ = net(example, chosen.path)
    small = tp.extract(net, chosen.path)
    print(f"{type(small).__name__} with {sum(p.numel() for p in small.parameters()):,} parameters of", end=" ")
    print(f"{front.layout.plain.params:,}; same answers: {torch.allclose(small(example), logits, atol=1e-4)}")
    return front


if __name__ == "__main__":
    main()
