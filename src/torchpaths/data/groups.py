"""``groups_of``: the groups that classes of known data sets belong to, by their names."""

from __future__ import annotations

from collections.abc import Sequence

CIFAR100: dict[str, str] = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
"""Superclass -> its five classes (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""

_GROUP = {name: group for group, names in CIFAR100.items() for name in names.split()}


def groups_of(classes: Sequence[str]) -> tuple[str, ...]:
    """The group of each class, where these are all the classes of a data set with known ones; else none, ``()``."""
    plain = [name.replace(" ", "_") for name in classes]
    return tuple(_GROUP[name] for name in plain) if sorted(plain) == sorted(_GROUP) else ()
