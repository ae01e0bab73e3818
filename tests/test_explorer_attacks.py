"""Attacks asked for on the live page: each is the library's own FGSM, shown beside the clean image with both paths."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

import torchpaths as tp
from browser import Shown, chromium, needs_chromium, serving
from torchpaths.attacks import Pixels, fgsm
from torchpaths.costs import evaluating
from torchpaths.explorer.answers import Answers
from torchpaths.explorer.pictures import live_document
from torchpaths.explorer.serve import app_of
from torchpaths.train.evaluate import images_for, open_run, survey_run
from torchpaths.train.run import train
from train_toys import tiny


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """A gated run of one epoch on digits, opened with its survey."""
    folder = tmp_path_factory.mktemp("attacks") / "run"
    train(tiny(method=tp.GatedBlocks(), model="cifar_resnet14"), folder, quiet=True)
    run = open_run(folder)
    return Answers(run, survey_run(folder).survey, images_for(run))


@pytest.fixture(scope="module")
def document(answers: Answers) -> dict[str, Any]:
    return live_document(answers, None)


@pytest.fixture(scope="module")
def client(answers: Answers, document: dict[str, Any]) -> TestClient:
    return TestClient(app_of(answers, document), base_url="http://localhost")


def attacked(answers: Answers, pixels: NDArray[np.uint8], label: int, levels: int, path: tp.Path | None) -> Any:
    """Scores, path and picture of an image under the library's FGSM, brought to whole levels towards the image."""
    run = answers.run
    x = torch.from_numpy(pixels.copy()).movedim(2, 0)[None].double() / 255
    made = fgsm(Pixels(answers.net, run.mean, run.std, path=path), x.float(), [label], levels / 255)
    seen = np.rint((made.double() * 255).numpy()).astype(np.uint8)[0].transpose(1, 2, 0)
    with torch.no_grad(), evaluating(answers.net):
        scores, trace = answers.net(answers.normalised(seen[None]), path)
    return scores[0].numpy(), tp.Path.of(trace), seen


def asked(answers: Answers, set_: dict[int, str] | None = None, **more: Any) -> dict[str, Any]:
    path = "".join((set_ or {}).get(u, "-") for u in range(len(answers.layout.units)))
    return {"path": path, **more}


@pytest.mark.parametrize("levels", [1, 4, 16])
@pytest.mark.parametrize("shut", [None, 1])
def test_an_attacked_image_is_what_the_library_makes_of_it(
    answers: Answers, client: TestClient, levels: int, shut: int | None
) -> None:
    site = None if shut is None else answers.layout.units[shut].site
    path = None if site is None else tp.Path({site: [False]})
    for image in (3, 7):
        pixels = np.asarray(answers.images.read([image])[0])
        scores, opened, seen = attacked(answers, pixels, int(answers.images.labels[image]), levels, path)
        question = asked(answers, {} if shut is None else {shut: "0"}, image=image)
        found = client.post("/api/run", json={**question, "attack": {"name": "fgsm", "strength": levels}}).json()
        assert np.allclose(found["scores"], scores, atol=1e-3)
        assert found["open"] == opened.opened(answers.layout)[0].astype(int).tolist()
        assert (found["name"], found["strength"]) == ("fgsm", levels)
        clean = client.post("/api/run", json=question).json()
        assert clean["scores"] != found["scores"]
        assert np.abs(seen.astype(int) - pixels).max() == levels
        assert found["thumb"].startswith("data:image/png;base64,")


def test_an_attack_of_strength_zero_is_the_image(answers: Answers, client: TestClient) -> None:
    clean = client.post("/api/run", json=asked(answers, image=5)).json()
    none = client.post("/api/run", json=asked(answers, image=5, attack={"name": "fgsm", "strength": 0})).json()
    assert none["scores"] == clean["scores"]


def test_an_upload_is_attacked_as_what_the_network_takes_it_for(answers: Answers, client: TestClient) -> None:
    pixels = np.asarray(answers.images.read([5])[0])
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(buffer, "PNG")
    uploaded = client.post("/api/upload", files={"file": ("five.png", buffer.getvalue())}).json()
    question = asked(answers, upload=uploaded["id"], attack={"name": "fgsm", "strength": 8})
    found = client.post("/api/run", json=question).json()
    scores, _, _ = attacked(answers, pixels, uploaded["top"][0][0], 8, None)
    assert np.allclose(found["scores"], scores, atol=1e-3)


@pytest.mark.parametrize(
    ("attack", "word"),
    [
        ({"name": "fgsm", "strength": 17}, "0 to 16"),
        ({"name": "fgsm", "strength": -1}, "0 to 16"),
        ({"name": "fgsm", "strength": 2.5}, "0 to 16"),
        ({"name": "fgsm", "strength": True}, "0 to 16"),
        ({"name": "fgsm", "strength": "4"}, "0 to 16"),
        ({"name": "fgsm", "strength": 10**400}, "0 to 16"),
        ({"name": "fgsm"}, "0 to 16"),
        ({"name": "pgd", "strength": 4}, "no such attack"),
        ("fgsm", "no such attack"),
        ([], "no such attack"),
    ],
)
def test_an_attack_that_there_is_not_is_told(answers: Answers, client: TestClient, attack: Any, word: str) -> None:
    found = client.post("/api/run", json=asked(answers, image=1, attack=attack))
    assert found.status_code == 422
    assert word in found.json()["error"] + found.json()["remedy"]


def test_an_upload_that_is_gone_and_a_network_without_gradients_are_told(answers: Answers, client: TestClient) -> None:
    attack = {"name": "fgsm", "strength": 4}
    gone = client.post("/api/run", json=asked(answers, upload="gone", attack=attack))
    assert gone.status_code == 422
    assert "upload the image again" in gone.json()["remedy"].lower()
    hook = answers.net.get_submodule("model.linear").register_forward_pre_hook(lambda _, given: (given[0].detach(),))
    found = client.post("/api/run", json=asked(answers, image=1, attack=attack))
    hook.remove()
    assert found.status_code == 422
    assert "no gradient" in found.json()["error"]


@pytest.fixture(scope="module")
def server(answers: Answers, document: dict[str, Any]) -> Iterator[str]:
    with serving(app_of(answers, document)) as address:
        yield address


@needs_chromium
def test_the_slider_shows_the_attacked_image_beside_the_clean_one_and_the_link_brings_it_back(
    answers: Answers, server: str, client: TestClient, tmp_path: Path
) -> None:
    with chromium() as browser:
        shown = Shown(browser).open(server)
        image = shown.page.locator("[data-image]").first
        number = int(image.get_attribute("data-image"))
        image.click()
        slider = shown.page.locator("#two input[type=range]")
        for wanted in (1, 2):  # by keyboard, which keeps the focus
            slider.press("ArrowRight")
            shown.page.wait_for_function(f"() => location.hash.includes('with=fgsm-{wanted}')")
        assert shown.page.evaluate("document.activeElement.type") == "range"
        clean, found = (
            client.post("/api/run", json=asked(answers, image=number, attack=attack)).json()
            for attack in (None, {"name": "fgsm", "strength": 2})
        )
        differ = sum(a != b for a, b in zip(clean["open"], found["open"], strict=True))

        def agrees() -> None:
            text = shown.text("#two")
            assert f"{differ} of {len(clean['open'])}" in text
            assert "after FGSM at 2/255" in text
            assert answers.survey.classes[found["top"][0][0]] in shown.text(
                "#two .second figcaption, #two .card.second"
            )
            assert shown.page.locator("#two .second img").get_attribute("src") == found["thumb"]
            assert slider.input_value() == "2"

        agrees()
        shown.page.reload()
        shown.page.wait_for_selector("body[data-ready]")
        agrees()
        assert not shown.page.locator("#banner").is_visible()
        shown.page.goto(f"{server}#v=1&image={number}&with=fgsm-99")
        shown.page.reload()
        shown.page.wait_for_selector("#banner:not([hidden])")
        assert [text for text in shown.errors if "422" not in text] == []
        shown.close()
