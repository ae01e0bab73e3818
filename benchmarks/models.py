"""The support matrix: which architectures of timm, torchvision and transformers route, and which laws they keep.

    python benchmarks/models.py                  # whatever has no result yet, then docs/models.md
    python benchmarks/models.py timm/resnet18    # these again

Each runs in a process of its own with a time limit, so that one cannot stop the others; a result is kept as one JSON
line in runs/models.jsonl as soon as it is there, and a run that was stopped goes on where it was. What
benchmarks/models.json holds is not measured again either. ``--part depths`` measures only which have depths.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import warnings
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "runs" / "models.jsonl"
TABLE = ROOT / "benchmarks" / "models.json"

PROCESSES = multiprocessing.get_context("forkserver")

NAMES = [
    f"{library}/{name}"
    for library, names in {
        "timm": """
            resnet18 resnet26d resnet50 resnext50_32x4d wide_resnet50_2 seresnet50 seresnext26d_32x4d ecaresnet26t
            skresnet18 resnetrs50 resnest14d res2net50_26w_4s resnetv2_50 resnetv2_50x1_bit nf_resnet26 nfnet_f0
            eca_nfnet_l0 tresnet_m gcresnet33ts botnet26t_256 halonet26t lambda_resnet26t bat_resnext26ts
            legacy_seresnet18
            regnetx_002 regnety_002 regnetz_b16 gernet_s
            mobilenetv2_100 mobilenetv3_small_100 mobilenetv4_conv_small mobilenetv4_hybrid_medium mnasnet_100
            fbnetc_100
            spnasnet_100 hardcorenas_a efficientnet_b0 efficientnet_lite0 efficientnetv2_rw_t mixnet_s tinynet_e
            lcnet_050
            rexnet_100 ghostnet_100 ghostnetv2_100 repghostnet_050 mobileone_s0 repvgg_a0 repvit_m1 fasternet_t0
            starnet_s1
            convnext_atto convnextv2_atto inception_next_tiny convmixer_768_32 focalnet_tiny_srf edgenext_xx_small
            mambaout_femto hgnetv2_b0 rdnet_tiny
            vit_tiny_patch16_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224
            vit_small_patch14_dinov2 beit_base_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224 xcit_nano_12_p16_224
            volo_d1_224 convit_tiny crossvit_tiny_240 visformer_tiny pit_ti_224 tnt_s_legacy_patch16_224
            vitamin_small_224 flexivit_small
            swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 swin_s3_tiny_224
            maxvit_tiny_rw_224
            coatnet_0_rw_224 coat_lite_tiny twins_svt_small pvt_v2_b0 nest_tiny davit_tiny hiera_tiny_224
            mvitv2_tiny
            gcvit_xxtiny tiny_vit_5m_224 levit_128s efficientformer_l1 efficientformerv2_s0 efficientvit_b0
            efficientvit_m0
            fastvit_t8 mobilevit_xxs mobilevitv2_050 nextvit_small swiftformer_xs shvit_s1 sequencer2d_s
            mixer_s32_224 gmlp_ti16_224 resmlp_12_224 poolformer_s12 poolformerv2_s12 caformer_s18
            dla34 hrnet_w18_small cspresnet50 darknet53 cs3darknet_s xception41 dpn48b inception_resnet_v2
            selecsls42b
            ese_vovnet39b densenet121 vgg11_bn inception_v3 inception_v4
        """,
        "torchvision": """
            resnet18 resnet50 resnext50_32x4d wide_resnet50_2 regnet_x_400mf regnet_y_400mf mobilenet_v2
            mobilenet_v3_small mobilenet_v3_large mnasnet1_0 efficientnet_b0 efficientnet_v2_s convnext_tiny
            vit_b_32
            swin_t swin_v2_t maxvit_t shufflenet_v2_x0_5 densenet121 googlenet inception_v3 vgg11 alexnet
            squeezenet1_1
        """,
        "transformers": "vit deit dinov2 beit swin segformer clip convnext resnet",
    }.items()
    for name in names.split()
]

SIDES = {"timm/vit_small_patch14_dinov2": 112}
"""Images smaller than a model is made for, where those take long."""

UNSEEN = {"timm/dpn48b": "its blocks pass a tuple, residual and dense path, from one to the next"}
"""Why nothing was found where the search itself cannot say."""


Part: TypeAlias = Literal["laws", "depths", "uses"]
"""What is measured of an architecture: the laws of a routed network; whether it has depths; how a model of transformers
is used."""


def create(name: str) -> Any:
    """An architecture with random weights."""
    library, architecture = name.split("/")
    if library == "timm":
        import timm

        return timm.create_model(architecture, **({"img_size": SIDES[name]} if name in SIDES else {}))
    if library == "transformers":
        from transformers_toys import make

        return make(architecture)
    import torchvision

    slow = {"init_weights": False} if architecture in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(architecture, **slow)


def size(name: str) -> tuple[int, ...]:
    """The input size an architecture is made for."""
    library, architecture = name.split("/")
    if name in SIDES:
        return (3, SIDES[name], SIDES[name])
    if library == "timm":
        import timm

        config: Any = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
        return tuple(config.input_size)
    if library == "transformers":
        from transformers_toys import X

        return tuple(X.shape[1:])
    return (3, 299, 299) if architecture == "inception_v3" else (3, 224, 224)


def examine(name: str, part: Part, hand: bool, answer: Connection) -> None:
    """One architecture, in a process of its own; the result goes into the pipe."""
    import resource

    import torch
    from models_by_hand import BY_HAND
    from models_check import MEMORY, check
    from models_depths import depths

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    warnings.filterwarnings("ignore")
    try:
        x = torch.randn(2, *size(name), generator=torch.Generator().manual_seed(0))
        if part == "uses":
            from models_uses import uses

            answer.send(asdict(uses(name.split("/")[1])))
            return
        work: Any = check if part == "laws" else depths
        answer.send(asdict(work(lambda: create(name), x, BY_HAND[name] if hand else None)))
    except Exception as error:
        answer.send({"outcome": "failed", "reason": f"{type(error).__name__}: {str(error).splitlines()[0]}"})


def measure(name: str, part: Part, hand: bool, seconds: float) -> dict[str, Any]:
    """A part of one architecture's row, so that nothing it does can stop the others."""
    inside, outside = PROCESSES.Pipe()
    process = PROCESSES.Process(target=examine, args=(name, part, hand, outside))
    process.start()
    outside.close()
    try:
        if not inside.poll(seconds):
            return {"outcome": "failed", "reason": f"took longer than {seconds:.0f} s"}
        row: dict[str, Any] = inside.recv()
        return row
    except EOFError:
        process.join()
        return {"outcome": "failed", "reason": f"its process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def results() -> dict[str, dict[str, Any]]:
    """The latest result of each architecture."""
    rows = json.loads(TABLE.read_text())["models"] if TABLE.exists() else []
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {row["name"]: row for row in (*rows, *map(json.loads, lines))}


def laws(name: str, seconds: float) -> dict[str, Any]:
    """The laws' part of a row, automatic and, where there is one, by hand."""
    from models_by_hand import BY_HAND

    row = measure(name, "laws", False, seconds)
    if row["outcome"] == "not routed":
        row["reason"] = UNSEEN.get(name, row["reason"])
    if name in BY_HAND:
        row["by_hand"] = measure(name, "laws", True, seconds)
    return row


def depths(name: str, seconds: float) -> dict[str, Any]:
    """The depths' part of a row; with blocks given by hand only where there are none without."""
    from models_by_hand import BY_HAND

    found = measure(name, "depths", False, seconds)
    return measure(name, "depths", True, seconds) if found["outcome"] != "passed" and name in BY_HAND else found


def _lacks(row: dict[str, Any], part: Part) -> bool:
    """Whether a part of a row is to be measured; how they are used, of models of transformers only."""
    if part == "uses" and not row["name"].startswith("transformers/"):
        return False
    return (part if part != "laws" else "outcome") not in row


def main() -> None:
    from models_page import write

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures to measure again; default: all without a result")
    parser.add_argument("--part", choices=get_args(Part), help="measure only this")
    parser.add_argument("--seconds", type=float, default=900, help="time limit of one architecture")
    given = parser.parse_args()
    preloaded = ["torch", "torchvision", "timm", "models_check", "models_depths"]  # imported once, not by each
    PROCESSES.set_forkserver_preload(preloaded)
    RESULTS.parent.mkdir(exist_ok=True)
    known = results()
    for name in given.names or NAMES:
        row = {"name": name, **known.get(name, {})}
        wanted = {part for part in get_args(Part) if name in given.names or _lacks(row, part)}
        if given.part:
            wanted &= {given.part}
        if "laws" in wanted:
            kept = {k: row[k] for k in ("name", "depths", "uses") if k in row}  # blocks by hand may be gone
            row = {**kept, **laws(name, given.seconds)}
        if "depths" in wanted:
            row = {**row, "depths": depths(name, given.seconds)}
        if "uses" in wanted and name.startswith("transformers/"):
            row = {**row, "uses": measure(name, "uses", False, given.seconds)}
        if not wanted:
            continue
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{name:40s} {row.get('outcome', ''):10s} {row.get('sums', 0):4d} {row.get('reason', '')}", flush=True)
    found = results()
    missing = [
        name for name in NAMES if any(_lacks({"name": name, **found.get(name, {})}, part) for part in get_args(Part))
    ]
    if missing:
        print(f"{len(missing)} architectures have no result yet, {missing[0]} the first; the page is as it was.")
        return
    table = {
        "versions": {package: version(package) for package in ("torch", "torchvision", "timm", "transformers")},
        "models": [found[name] for name in NAMES],
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    write(table, ROOT / "docs" / "models.md")


if __name__ == "__main__":
    main()
