"""Where the channels of a layer go: ``Span``, data.

From the layer that makes them (the producer) channels pass layers that treat each by itself, or in groups (norms,
grouped convolutions, activations, pooling), until a layer mixes them (a consumer). Squeeze-and-excitation beside them
reads them through a consumer and multiplies them by the outputs of an aligned layer. To close a unit then means rows of
the producer, of what lies between and of aligned layers, and columns of the consumers. Channels that go elsewhere, into
a sum or a concatenation, can only be followed as far as that (`torchpaths.places.channels.follow.ended`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Channels from where they are made to where they are mixed. Layers by their names within the region.

    Attributes:
        producer: makes them.
        between: layers with an entry for each channel, in order.
        aligned: layers whose outputs the channels are multiplied with.
        squeezes: layers that mix them only to compute those factors.
        consumers: the other layers that mix them.
        width: how many channels.
        end: the last layer, where no layer mixes them since they go into a sum, a concatenation or several of those;
            "" where layers do.
        norms: norms with nothing between them and the layer before, with that layer.
        features: the layer behind which, and behind the ReLU that follows if ``rectified``, they are what the paper of
            network decoupling calls the output of a layer (eq. 1); "" where the consumers read just that.
        rectified: see above.
    """

    producer: str
    between: tuple[str, ...]
    aligned: tuple[str, ...]
    squeezes: tuple[str, ...]
    consumers: tuple[str, ...]
    width: int
    end: str = ""
    norms: tuple[tuple[str, str], ...] = ()
    features: str = ""
    rectified: bool = False

    def within(self, prefix: str) -> Span:
        """The same with the names that layers have in a module around, under which the region's begin so."""
        own = (self.between, self.aligned, self.squeezes, self.consumers)
        between, aligned, squeezes, consumers = (tuple(prefix + name for name in names) for names in own)
        end, features = (prefix + name if name else "" for name in (self.end, self.features))
        norms = tuple((prefix + norm, prefix + layer) for norm, layer in self.norms)
        layers = (prefix + self.producer, between, aligned, squeezes, consumers)
        return Span(*layers, self.width, end, norms, features, self.rectified)
