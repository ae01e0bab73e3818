"""Made-up surveys for the page: documents with known numbers, one for each form that sites take."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchpaths.explorer.packing import overview, packed

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ORDER = [0, 1, 8, 9, 2, 6, 4, 7, 3, 5]
HOSTILE = ("</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "a,b#c&d=e", "x" * 200)


def thumb(rng: np.random.Generator) -> str:
    """A picture of 32 pixels as a data address."""
    colours = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def hexed(bits: NDArray[np.bool_]) -> str:
    return np.packbits(bits).tobytes().hex()


def document(
    shares: NDArray[np.float64],
    sites: list[tuple[str, str, int, str, str]],
    classes: tuple[str, ...],
    *,
    name: str = "ResNet-56",
    dataset: str = "CIFAR-10",
    images: int = 1000,
    order: list[int] | None = None,
    groups: list[str] | None = None,
    seed: int = 0,
    energy: NDArray[np.float64] | None = None,
    code: NDArray[np.float64] | None = None,
    alone: bool = True,
    front: list[dict[str, Any]] | None = None,
    gallery: int = 0,
    sort: bool = False,
) -> dict[str, Any]:
    """A survey with these shares ``[class, unit]``; sites are (name, stage, units, decided by, note)."""
    rng = np.random.default_rng(seed)
    count, units = shares.shape
    macs = [4_720_000] * units if units < 100 else [400_000] * units
    fixed = int(0.05 * sum(macs)) + 2_000_000
    rows = order or list(range(count))
    start, site_list, columns = 0, [], []
    for site, stage, size, decided, note in sites:
        inside = np.argsort(shares[:, start : start + size].mean(0)).tolist() if sort and size > 32 else []
        columns += [start + i for i in (inside or range(size))]
        kind = "block" if size == 1 else "branches" if size <= 32 else "filters"
        kind = "stage" if decided == "outside" else kind
        site_list.append(
            {
                "name": site,
                "stage": stage,
                "note": note,
                "decided_by": decided,
                "kind": kind,
                "start": start,
                "units": size,
                "order": inside,
            }
        )
        start += size
    executed = shares.sum(1)
    plain = {"macs": sum(macs) + fixed, "params": 853_018, "accuracy": 0.9359, "ms": {"value": 6.0}}
    share = fixed + shares @ np.array(macs)
    opened = {"images": [images] * count, **packed(shares)}
    if shares.size > 1_000_000:
        opened["overview"] = overview(shares, rows, np.array(columns))
    pictures = []
    for i in range(gallery):
        label = i % count
        bits = rng.random(units) < shares[label]
        attacked = bits ^ (rng.random(units) < 0.2)
        pictures.append(
            {
                "id": 1000 + i,
                "label": label,
                "thumb": thumb(rng),
                "path": hexed(bits),
                "score": None,
                "top": [[label, 0.94], [(label + 1) % count, 0.04]],
                "without": {str(u): [[(label + u) % count, 0.8], [label, 0.1]] for u in range(units)}
                if units < 100
                else {},
                "attacked": [
                    {
                        "name": "fgsm",
                        "strength": 4,
                        "thumb": thumb(rng),
                        "path": hexed(attacked),
                        "top": [[(label + 2) % count, 0.81], [label, 0.12]],
                        "without": {},
                    }
                ],
            }
        )
    spread = np.rint(rng.normal(executed.mean(), 2 + units / 20, images * count)).clip(0, units).astype(int)
    points = np.round(rng.gamma(1.0, 1.2, units) / 100 + 0.002, 4).tolist()
    for i in (0, units // 3, 2 * units // 3):
        points[i] = 0.3 + i / 100
    return {
        "schema": "torchpaths.survey/2",
        "network": {
            "name": name,
            "method": ["GatedBlocks, target rate 0.6"],
            "dataset": dataset,
            "split": "test",
            "images": images * count,
            "fingerprint": "0123456789abcdef",
        },
        "classes": {
            "name": list(classes),
            "group": groups,
            "images": [images] * count,
            "accuracy": np.round(0.8 + 0.15 * rng.random(count), 3).tolist(),
            "order": rows,
            "executed": [[mean, 1.2] for mean in executed.tolist()],
            "macs": share.tolist(),
        },
        "sites": site_list,
        "units": {
            "macs": macs,
            "params": [73_900] * units,
            "ms": [0.15] * units if units < 100 else None,
            "alone_points": points if alone else None,
            "spread": shares.std(0).tolist(),
        },
        "fixed": {"macs": fixed, "params": 20_000, "ms": 0.4},
        "openness": opened,
        "energy": None if energy is None else packed(energy),
        "code": None if code is None else packed(code),
        "alone": {"images": images * count, "accuracy": 0.9208} if alone else None,
        "histogram": {"all": np.bincount(spread, minlength=units + 1).tolist(), "by_class": None},
        "paths": {"distinct": 812, "top": []},
        "plain": plain,
        "now": {
            "macs": float(share.mean()),
            "params": 853_018,
            "accuracy": 0.9208,
            "executed": float(executed.mean()),
            "executed_std": 1.2,
            "gap": 1.07,
            "ms": {
                "value": 4.1,
                "device": "cpu",
                "dtype": "fp32",
                "threads": 1,
                "batch": 1,
                "memory_format": "channels_last",
                "compile": None,
            },
        },
        "front": front,
        "menu": {
            "images": images * count,
            "same": True,
            "plain_ms": 6.0,
            "setting": {"device": "cpu", "threads": 1, "batch": 1, "dtype": "float32"},
        },
        "cloud": [
            [(sum(macs) + fixed) * a, b]
            for a, b in zip(0.3 + 0.65 * rng.random(90), 0.8 + 0.13 * rng.random(90), strict=True)
        ]
        if front
        else [],
        "images": pictures,
        "filters": None,
    }


def points(units: int, plain: float, fixed: float, kept: list[int], seed: int = 1) -> list[dict[str, Any]]:
    """A front of paths that open so many units, best first."""
    rng = np.random.default_rng(seed)
    worth = rng.permutation(units)
    out = []
    for count in kept:
        bits = np.zeros(units, bool)
        bits[worth[:count]] = True
        macs = fixed + (plain - fixed) * count / units
        accuracy = 0.936 - 0.14 * (1 - count / units) ** 1.5
        out.append(
            {
                "path": hexed(bits),
                "macs": macs,
                "ms": 0.4 + 5.6 * count / units,
                "accuracy": round(accuracy, 4),
                "kind": "greedy",
            }
        )
    return out


def blocks(**more: Any) -> dict[str, Any]:
    """A ResNet-56 of 27 gated blocks on ten classes, with everything a survey can have."""
    rng = np.random.default_rng(0)
    base = np.concatenate([[1.0], rng.uniform(0.2, 0.95, 8)] * 3)
    shares = (base + rng.normal(0, 0.14, (10, 27))).clip(0, 1).round(2)
    shares[:, [0, 9, 18]] = 1.0
    shares[3, 20], shares[:, 25] = 0.33, 0.02
    sites = [
        (f"layer{s}.{b}", f"layer{s}", 1, "input", f"{16 << (s - 1)} channels, {32 >> (s - 1)}\u00d7{32 >> (s - 1)}")
        for s in (1, 2, 3)
        for b in range(9)
    ]
    front = points(
        27, 27 * 4_720_000 * 1.05 + 2_000_000, 27 * 4_720_000 * 0.05 + 2_000_000, [9, 11, 13, 16, 18, 20, 23, 27]
    )
    groups = ["machine" if name in ("airplane", "automobile", "ship", "truck") else "animal" for name in CIFAR]
    return document(shares, sites, CIFAR, order=ORDER, groups=groups, front=front, gallery=24, **more)


def depth() -> dict[str, Any]:
    """An adaptive-depth ResNet-56: three stages set from outside, eight sub-networks."""
    sites = [(f"layer{s}", f"layer{s}", 1, "outside", "always: 4 blocks|may be skipped: 5 blocks") for s in (1, 2, 3)]
    rng = np.random.default_rng(3)
    front = []
    for mask in range(8):
        bits = np.array([mask & 4, mask & 2, mask & 1]) == 0
        skipped = 3 - int(bits.sum())
        front.append(
            {
                "path": hexed(bits),
                "macs": 16_868_000 - 4_720_000 * skipped,
                "ms": 6.16 - 0.97 * skipped,
                "accuracy": round(0.9364 - 0.008 * skipped - 0.004 * float(rng.random()), 4),
                "kind": "every",
            }
        )
    made = document(
        np.ones((10, 3)), sites, CIFAR, name="Adaptive-depth ResNet-56", order=ORDER, front=front, alone=False
    )
    made["plain"]["macs"] = 16_868_000
    return made


def coded() -> dict[str, Any]:
    """A coded ResNeXt: six sites of ten branches, a codeword for each class."""
    rng = np.random.default_rng(4)
    sites = [
        (f"layer{s}.{b}", f"layer{s}", 10, "class", f"{active} of 10")
        for s, active in ((2, 5), (3, 3))
        for b in range(3)
    ]
    code, energy = np.zeros((10, 60)), np.zeros((10, 60))
    for site in range(6):
        active = 5 if site < 3 else 3
        for c in range(10):
            on = rng.permutation(10)[:active]
            code[c, site * 10 + on] = 1
            energy[c, site * 10 : site * 10 + 10] = rng.uniform(0.01, 0.05, 10)
            energy[c, site * 10 + on] += rng.uniform(0.7, 1.3, active) / active
        block = energy[:, site * 10 : site * 10 + 10]
        block /= block.sum(1, keepdims=True)
    made = document(
        np.ones((10, 60)),
        sites,
        CIFAR,
        name="ResNeXt-29 (10 \u00d7 11d)",
        order=ORDER,
        energy=energy,
        code=code,
        alone=False,
        gallery=0,
    )
    made["network"]["method"] = ["CodedPaths"]
    return made


def filters(classes: int = 1000, units: int = 10_000, seed: int = 5) -> dict[str, Any]:
    """Gated filters of a ResNet-50 on so many classes; shares of 50 images, so that noise does not compress."""
    rng = np.random.default_rng(seed)
    weights = np.array([3, 3, 3, 4, 6, 6, 6, 5, 7, 8, 8, 8, 8, 10, 10, 10.0])
    sizes = np.maximum(33, (weights / weights.sum() * units).astype(int))
    sizes[-1] += units - int(sizes.sum())
    names = [f"layer{s}.{b}" for s, blocks_ in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(blocks_)]
    sites = [(name, name.split(".")[0], int(size), "input", "") for name, size in zip(names, sizes, strict=True)]
    kinds = rng.normal(0, 0.18, (9, units))
    group = np.sort(rng.integers(0, 9, classes))
    rates = (rng.beta(1.2, 1.2, units) + kinds[group] + rng.normal(0, 0.05, (classes, units))).clip(0, 1)
    shares = rng.binomial(50, rates) / 50
    labels = [
        "reptiles",
        "birds, sea life",
        "dogs",
        "wild cats, bears",
        "other mammals",
        "devices, clothing",
        "furniture, tools",
        "instruments, vehicles",
        "food, fruit",
    ]
    return document(
        shares,
        sites,
        tuple(f"class {c:03d}" for c in range(classes)),
        name="ResNet-50",
        dataset="ImageNet",
        images=50,
        groups=[labels[g] for g in group],
        alone=False,
        sort=True,
    )


def narrow() -> dict[str, Any]:
    """Gated filters of a ResNet-56, 54 sites of few filters each, without times, of a run with a long name."""
    sites = [
        (f"layer{s}.{b}.conv{i}", f"layer{s}", 8 << s, "input", "") for s in (1, 2, 3) for b in range(9) for i in (1, 2)
    ]
    shares = np.random.default_rng(7).random((10, sum(size for _, _, size, _, _ in sites))).round(2)
    made = document(shares, sites, CIFAR, order=ORDER, alone=False)
    made["now"]["ms"], made["page"] = None, {"run": "runs/cifar10/gated-filters-resnet56-sparse"}
    return made


def mixed(**more: Any) -> dict[str, Any]:
    """One network of all three forms: gated blocks, a fan of branches, filters."""
    rng = np.random.default_rng(6)
    sites = [(f"layer1.{b}", "layer1", 1, "input", "") for b in range(6)] + [
        ("layer2.0", "layer2", 10, "input", "10 branches"),
        ("layer3.0", "layer3", 64, "input", ""),
        ("layer3.1", "layer3", 100, "input", ""),
    ]
    return document(rng.random((10, 180)).round(2), sites, CIFAR, name="Mixed network", order=ORDER, **more)


def hostile() -> dict[str, Any]:
    """Classes whose names try to be HTML, links or endless."""
    made = blocks()
    made["classes"]["name"] = [*HOSTILE, *CIFAR[len(HOSTILE) :]]
    made["network"]["name"] = "<b>ResNet</b>"
    return made
