"""From a plain network to one whose filters each image chooses: train it, see what opens, remove what never does, cut.

python examples/gated_filters.py
"""

from __future__ import annotations

import torch

import torchpaths as tp
from torchpaths.data import Loader, open_data
from torchpaths.filtering import class_paths, filter_states
from torchpaths.models import cifar_resnet


def main(epochs: int = 20) -> tp.Routed:
    torch.manual_seed(0)
    train, test = (open_data("digits", split) for split in ("train", "test"))
    normal = {"mean": train.mean, "std": train.std}
    loader = Loader(train, 64, shuffle=True, drop_last=True, **normal)
    example, _ = next(iter(loader))

    # A gate before each convolution but the first. Weights are larger than the paper's, as there are few steps.
    method = tp.GatedFilters(sparse=0.001, mutual=0.03)
    net = tp.route(cifar_resnet(14, channels=1), method, example=example)
    print(net)

    # The labels teach the network; three more losses teach the gates, one of them through a class head for each layer.
    objective = tp.Objective(net, method).train()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for epoch in range(epochs):
        for x, y in loader.epoch(epoch):
            torch.stack(list(objective(x, y).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    # What opens: in all, and for the images of each class.
    net.eval()
    tests = Loader(test, 256, **normal)
    survey = tp.survey(net, tests)
    print(f"{survey.accuracy:.1%} at {survey.macs / net.layout.plain.macs:.1%} of the MACs")
    print({state: f"{share:.0%}" for state, share in filter_states(survey).shares.items()}, "of the filters")
    last = list(net.sites)[-2]
    print(f"an image of each class opens in {last}", class_paths(net, tests).open_filters[last].round(1), "filters")

    # Filters that no training image opens are of no use. What is left goes on deciding.
    narrow = tp.narrow(net, filter_states(net, Loader(train, 256, **normal)), method)
    print(f"{sum(p.numel() for p in narrow.parameters()):,} parameters of {sum(p.numel() for p in net.parameters()):,}")

    # One image alone computes its own filters only; or its path becomes a plain network.
    x = next(iter(tests))[0][:1]
    with torch.no_grad():
        logits, trace = tp.skipping(narrow)(x)
        small = tp.extract(narrow, tp.Path.of(trace)[0])
        print(f"{tp.Path.of(trace).macs(narrow).item():,.0f} MACs;", end=" ")
        print(f"{type(small).__name__}, same answers: {torch.allclose(small(x), logits, atol=1e-4)}")
    return narrow


if __name__ == "__main__":
    main()
