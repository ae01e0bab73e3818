"""VGG for CIFAR, as in Liu et al., "Learning Efficient Convolutional Networks through Network Slimming" (2017), which
network decoupling reports on: 20.04 M parameters and 398 M MACs in its Table 1.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

The convolutions are those of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition" (2015), Table 1: 3x3, in stages between which max-pooling halves the resolution. Each has batch
normalisation, and so no bias. timm and torchvision have only the ImageNet form: there the last stage is pooled to 7 x 7
and read by three linear layers with dropout; here it is averaged and read by one. ``features`` is named as there.
"""

from __future__ import annotations

from torch import Tensor, nn

VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""Configuration E of Simonyan and Zisserman. Its 19 layers count three linear ones, of which one is left here."""


class CifarVGG(nn.Module):
    """Modules are named as in torchvision: features (one flat sequence), classifier. He initialisation."""

    def __init__(self, stages: tuple[tuple[int, ...], ...], classes: int, channels: int) -> None:
        """
        Args:
            stages: channels of each convolution, stage by stage; `VGG19` in the paper.
            classes: width of the last layer.
            channels: of the images; 3 for RGB, 1 for grey.
        """
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for i, widths in enumerate(stages):
            if i:
                layers.append(nn.MaxPool2d(2))
            for outputs in widths:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        # The paper's average over 2 x 2 pixels, which is all that five stages leave of 32 x 32 ones.
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(inputs, classes)
        # He et al., "Delving Deep into Rectifiers" (2015), eq. 10; batch normalisation starts as the identity already.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, channels, H, W]`` -> logits ``[B, classes]``. Any size from 16 x 16; 32 x 32 in the paper."""
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x))))
        return logits
