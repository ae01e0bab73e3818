"""The page with its model: every number is what the network itself gives, and bad input is told, never obeyed."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
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
from shared import pictures
from torchpaths.costs import decider_cost, evaluating
from torchpaths.data.decode import Form
from torchpaths.errors import DataError
from torchpaths.explorer.answers import Answers
from torchpaths.explorer.pictures import live_document
from torchpaths.explorer.serve import app_of
from torchpaths.explorer.uploads import upload_pixels
from torchpaths.train.evaluate import images_for, open_run, survey_run
from torchpaths.train.run import train
from train_toys import tiny

FORM = Form(8, 8, 3, scale=True, drop_colour=True)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """A gated run of one epoch on digits, opened with its survey."""
    folder = tmp_path_factory.mktemp("live") / "run"
    train(tiny(method=tp.GatedBlocks(), model="cifar_resnet14"), folder, quiet=True)
    survey = survey_run(folder).survey
    survey.save(folder)
    run = open_run(folder)
    return Answers(run, survey, images_for(run))


@pytest.fixture(scope="module")
def document(answers: Answers) -> dict[str, Any]:
    return live_document(answers, None)


@pytest.fixture(scope="module")
def client(answers: Answers, document: dict[str, Any]) -> TestClient:
    return TestClient(app_of(answers, document), base_url="http://localhost")


def events(client: TestClient, address: str) -> list[dict[str, Any]]:
    lines = client.get(address).text.split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


def alone(answers: Answers, unit: int, value: str = "0") -> str:
    """A path that sets one unit."""
    return "".join(value if u == unit else "-" for u in range(len(answers.layout.units)))


def direct(answers: Answers, rows: list[int], path: tp.Path) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """What the network itself gives for images along a path, and their MACs without the gates that nobody asks."""
    with torch.no_grad(), evaluating(answers.net):
        logits, trace = answers.net(answers.normalised(answers.images.read(rows)), path)
    asked = tp.Path.of(trace).macs(answers.net).numpy().astype(np.int64)
    deciders = [answers.net.sites[site].decider for site in path]
    return logits, asked - sum(decider_cost(decider).macs for decider in deciders if decider is not None)


def test_one_image_with_one_unit_shut_is_what_the_network_gives(answers: Answers, client: TestClient) -> None:
    for unit, site in enumerate(answers.layout.sites):
        found = client.post("/api/run", json={"image": 7, "path": alone(answers, unit)}).json()
        logits, macs = direct(answers, [7], tp.Path({site: [False]}))
        assert np.allclose(found["scores"], logits[0], atol=1e-4)
        assert found["macs"] == macs[0]
        assert found["open"][unit] == 0
        assert found["top"][0][0] == int(logits.argmax())


def test_accuracy_grows_to_that_of_the_whole_set(answers: Answers, client: TestClient) -> None:
    site = next(iter(answers.layout.sites))
    found = events(client, f"/api/accuracy?path={alone(answers, 0)}")
    everything = list(range(len(answers.images)))
    logits, macs = direct(answers, everything, tp.Path({site: [False]}))
    right = (logits.argmax(1).numpy() == answers.images.labels).mean()
    assert [event["done"] for event in found] == [False] * (len(found) - 1) + [True]
    assert found[0]["low"] < found[0]["value"] < found[0]["high"] or found[0]["value"] in (0, 1)
    assert found[-1]["value"] == pytest.approx(right)
    assert found[-1]["macs"] == pytest.approx(macs.mean())
    assert found[-1]["n"] == len(everything)
    one = events(client, f"/api/accuracy?path={alone(answers, 0)}&label=3")[-1]
    own = answers.images.labels == 3
    assert one["value"] == pytest.approx((logits.argmax(1).numpy() == 3)[own].mean())


def test_some_units_of_a_site_are_set_and_the_others_decide_as_they_did(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tiny(method=tp.GatedFilters(), model="cifar_resnet14"), folder, quiet=True)
    run = open_run(folder)
    found = Answers(run, survey_run(folder).survey, images_for(run))
    x = found.normalised(found.images.read([1, 2, 3]))
    free = [-1] * len(found.layout.units)
    _, before, _ = found.call(x, free)
    units = list(free)
    shut = next(u for u in range(len(units)) if before[:, u].any())
    units[shut] = 0
    _, after, macs = found.call(x, units)
    site = found.layout.units[shut].site
    own = [u for u, unit in enumerate(found.layout.units) if unit.site == site and u != shut]
    assert not after[:, shut].any()
    assert (after[:, own] == before[:, own]).all()
    assert (macs == found.layout.costs(after)[:, 0]).all()


def test_times_are_measured_beside_the_plain_network(answers: Answers, client: TestClient) -> None:
    [found] = events(client, f"/api/time?path={alone(answers, 2)}")
    assert found["done"]
    assert found["value"] > 0
    assert found["plain"] > 0


def test_a_cut_is_a_zip_that_loads_without_torchpaths_and_gives_the_printed_accuracy(
    answers: Answers, client: TestClient, tmp_path: Path
) -> None:
    found = client.post("/api/cut", json={"classes": [1, 3], "budget": {"by": "macs", "value": 0.8}}).json()
    path = answers.chosen([1, 3], 0.8)
    assert found["units"] == sum(sum(opened) for opened in path.values())
    assert found["macs"] == path.cost(answers.net).macs - answers.layout.deciding.macs
    data = client.get(f"/api/cut/{found['id']}.zip").content
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    rows = [i for i, label in enumerate(answers.images.labels.tolist()) if label in (1, 3)]
    np.save(tmp_path / "x.npy", answers.normalised(answers.images.read(rows)).numpy())
    code = (
        "import sys, json, numpy as np, torch; sys.modules['torchpaths'] = None\n"
        "from load import load\nx = torch.from_numpy(np.load('../x.npy'))\n"
        "print(json.dumps(load().eval()(x).argmax(1).tolist()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "cut", capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    right = np.mean(np.array(json.loads(ran.stdout)) == answers.images.labels[rows])
    assert found["accuracy"] == pytest.approx(right)
    logits, _ = direct(answers, rows, tp.Path({site: (True,) * len(u) for site, u in answers.layout.sites.items()}))
    assert found["plain_accuracy"] == pytest.approx((logits.argmax(1).numpy() == answers.images.labels[rows]).mean())
    assert found["ms"] > 0
    assert found["plain_ms"] > 0


def test_the_network_of_some_classes_is_the_one_the_command_cuts(answers: Answers) -> None:
    chosen = answers.chosen([1], 0.8)
    assert chosen == answers.chosen([1, 1], 0.8)
    assert answers.chosen([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], None) == answers.survey.path()


@pytest.mark.parametrize(
    ("address", "body", "word"),
    [
        ("/api/run", {"image": 10**9, "path": "------"}, "no image"),
        ("/api/run", {"image": "1", "path": "------"}, "no image"),
        ("/api/run", {"image": 1, "path": "012"}, "path"),
        ("/api/run", {"image": 1, "path": "x" * 6}, "path"),
        ("/api/run", {"upload": "../../etc/passwd", "path": "------"}, "upload"),
        ("/api/cut", {"classes": []}, "classes"),
        ("/api/cut", {"classes": [99]}, "classes"),
        ("/api/cut", {"classes": "cat"}, "classes"),
        ("/api/cut", {"classes": [True]}, "classes"),
        ("/api/cut", {"classes": [1], "budget": {"by": "ms", "value": 3}}, "MACs"),
        ("/api/cut", {"classes": [1], "budget": {"by": "open", "value": 0.5}}, "MACs"),
        ("/api/cut", {"classes": [1], "budget": "x"}, "MACs"),
        ("/api/cut", {"classes": [1], "budget": {"by": "macs", "value": 10**400}}, "too large"),
        ("/api/cut", {"classes": [1], "budget": {"by": "macs", "value": True}}, "budget"),
        ("/api/cut", {"classes": [1], "budget": {"by": "macs"}}, "Budget"),
        ("/api/run", {"image": True, "path": "------"}, "no image"),
        ("/api/run", {"upload": [1], "path": "------"}, "upload"),
        ("/api/run", {"upload": {}, "path": "------"}, "upload"),
        ("/api/cut", {"classes": [1], "budget": {"by": "macs", "value": 0.0001}}, "MACs"),
    ],
)
def test_a_wrong_question_is_told_what_was_wrong(client: TestClient, address: str, body: Any, word: str) -> None:
    found = client.post(address, json=body)
    assert 400 <= found.status_code < 500
    assert word in found.json()["error"] + found.json()["remedy"]


@pytest.mark.parametrize("body", ["NaN", "[NaN]", '{"image": NaN}', "", "[1", "7"])
def test_what_is_no_question_is_told_and_never_a_fault(client: TestClient, body: str) -> None:
    for address in ("/api/run", "/api/cut"):
        found = client.post(address, content=body, headers={"content-type": "application/json"})
        assert found.status_code == 422
        assert found.json()["error"]


def test_no_more_is_taken_than_a_question_or_an_upload_needs_whatever_the_header_says(client: TestClient) -> None:
    def chunks(most: int) -> Iterator[bytes]:
        yield from (b" " * 100_000 for _ in range(0, most, 100_000))

    assert client.post("/api/run", content=chunks(3_000_000)).status_code == 413
    assert client.post("/api/upload", content=chunks(22_000_000)).status_code == 413
    assert client.post("/api/run", content=b"{}", headers={"content-length": "9" * 5000}).status_code == 413


@pytest.mark.parametrize(
    "address", ["/serve.py", "/../serve.py", "/page.json", "/style.py", "/api/cut/none.zip", "/docs"]
)
def test_nothing_but_the_page_is_served(client: TestClient, address: str) -> None:
    assert 400 <= client.get(address).status_code < 500


def test_a_page_of_another_site_or_name_is_not_answered(client: TestClient) -> None:
    assert client.get("/api/health", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/api/health", headers={"origin": "http://localhost"}).status_code == 200
    assert client.get("/api/health", headers={"origin": "http://evil://localhost"}).status_code == 403
    assert "default-src 'none'" in client.get("/").headers["content-security-policy"]


@pytest.mark.parametrize("host", ["::1", "127.0.0.2"])
def test_a_name_pointed_at_this_machine_is_not_answered_at_any_of_its_addresses(
    answers: Answers, document: dict[str, Any], host: str
) -> None:
    asked = TestClient(
        app_of(answers, document, host), base_url=f"http://[{host}]:8000" if ":" in host else f"http://{host}:8000"
    )
    evil = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
    assert asked.get("/api/health", headers=evil).status_code == 400
    assert asked.get("/api/health", headers={"host": "localhost:8000"}).status_code == 200


def test_a_sites_shares_come_as_bytes(answers: Answers, client: TestClient) -> None:
    site = list(answers.layout.sites)[2]
    found = np.frombuffer(client.get("/api/openness", params={"site": site}).content, np.uint8)
    assert np.allclose(found / 255, answers.survey.openness[:, 2], atol=0.003)
    assert client.get("/api/openness", params={"site": "nowhere"}).status_code == 422


def saved(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def declared(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


RED = Image.new("RGB", (20, 20), (200, 30, 30))


def test_uploads_of_every_kind_become_what_the_network_takes() -> None:
    deep = Image.fromarray(np.full((8, 8), 40000, np.uint16))
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = Image.new("RGB", (8, 8))
    tall.paste((255, 255, 255), (0, 0, 8, 4))
    kinds = {
        "16 bits": (saved(deep), [155, 155, 155]),
        "transparent": (saved(clear), [255, 255, 255]),
        "palette": (saved(RED.convert("P", palette=Image.Palette.ADAPTIVE)), [200, 30, 30]),
        "palette, transparent": (saved(Image.new("P", (8, 8), 0), transparency=0), [255, 255, 255]),
        "CMYK": (saved(RED.convert("CMYK"), "TIFF"), [200, 30, 30]),
        "grey": (saved(Image.new("L", (8, 8), 9)), [9, 9, 9]),
        "one bit": (saved(Image.new("1", (8, 8), 1)), [255, 255, 255]),
    }
    for name, (data, colour) in kinds.items():
        assert np.abs(upload_pixels(data, FORM)[4, 4].astype(int) - colour).max() <= 2, name
    turned = upload_pixels(saved(tall, "JPEG", exif=exif, quality=95), FORM)
    assert turned[4, 7].min() > 200
    assert turned[4, 0].max() < 50


def test_what_is_no_image_too_large_or_a_bomb_is_refused_before_it_is_decoded(client: TestClient) -> None:
    bomb = declared(60_000, 60_000)
    started = time.perf_counter()
    for data, word in ((b"<svg/>", "no image"), (bomb, "megapixels"), (b"", "no image"), (saved(RED)[:60], "damaged")):
        with pytest.raises(DataError, match=word):
            upload_pixels(data, FORM)
        found = client.post("/api/upload", files={"file": ("a.png", data)})
        assert found.status_code == 422
        assert found.json()["error"]
    assert time.perf_counter() - started < 5
    assert client.post("/api/upload", files={"file": ("a.png", b"0" * 20_200_000)}).status_code == 413
    assert client.post("/api/upload", files={"file": ("b.png", b"0" * 20_050_000)}).status_code == 422


def test_an_upload_is_followed_like_an_image_of_the_set(answers: Answers, client: TestClient) -> None:
    data = saved(Image.fromarray(answers.images.read([5])[0][..., 0]))
    found = client.post("/api/upload", files={"file": ("five.png", data)}).json()
    direct_ = client.post("/api/run", json={"image": 5, "path": "-" * len(answers.layout.units)}).json()
    again = client.post("/api/run", json={"upload": found["id"], "path": "-" * len(answers.layout.units)}).json()
    assert found["path"] == direct_["path"] == again["path"]
    assert found["thumb"].startswith("data:image/png;base64,")


def test_two_people_at_once_get_their_own_answers(answers: Answers, client: TestClient) -> None:
    wanted = {u: client.post("/api/run", json={"image": 3, "path": alone(answers, u)}).json() for u in (0, 1, 2)}
    wrong: list[int] = []

    def ask(unit: int) -> None:
        for _ in range(8):
            found = client.post("/api/run", json={"image": 3, "path": alone(answers, unit)}).json()
            wrong.extend([unit] if found["open"] != wanted[unit]["open"] else [])

    threads = [threading.Thread(target=ask, args=(unit,)) for unit in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module")
def server(answers: Answers, document: dict[str, Any]) -> Iterator[str]:
    with serving(app_of(answers, document)) as address:
        yield address


@needs_chromium
def test_the_live_ledger_is_what_the_network_gives_and_a_saved_page_agrees(answers: Answers, server: str) -> None:
    with chromium() as browser:
        shown = Shown(browser).open(server)
        assert "live on cpu" in shown.text("#about")
        shown.press(*shown.station(1))
        site = list(answers.layout.sites)[1]
        everything = list(range(len(answers.images)))
        logits, _ = direct(answers, everything, tp.Path({site: [False]}))
        right = float((logits.argmax(1).numpy() == answers.images.labels).mean())
        last = shown.page.locator("#ledger .cell").nth(4)
        shown.page.wait_for_function(
            "text => document.querySelectorAll('#ledger .cell')[4].innerText.includes(text)",
            arg=f"{len(everything):,} images",
        )
        assert f"{right * 100:.1f}" in last.locator(".number").inner_text()
        assert shown.page.locator("#ledger .estimated").count() == 0
        image = shown.page.locator("[data-image]").first
        number = int(image.get_attribute("data-image"))
        image.click()
        shown.page.wait_for_function(
            "() => document.querySelectorAll('#ledger .cell')[4].querySelector('.number:not(.unknown)') !== null"
        )
        wanted = answers.survey.classes[int(direct(answers, [number], tp.Path({site: [False]}))[0].argmax())]
        assert last.locator(".number").inner_text() == wanted
        assert shown.errors == []
        assert [url for url in shown.asked if not url.startswith((server, "data:"))] == []
        shown.close()


@needs_chromium
def test_an_upload_appears_and_no_image_is_told(answers: Answers, server: str, tmp_path: Path) -> None:
    (tmp_path / "five.png").write_bytes(saved(Image.fromarray(pictures(1, 8, 8)[0])))
    (tmp_path / "none.png").write_bytes(b"no image")
    with chromium() as browser:
        shown = Shown(browser).open(server)
        shown.page.set_input_files("input[type=file]", str(tmp_path / "none.png"))
        shown.page.wait_for_selector("#banner:not([hidden])")
        assert "no image" in shown.text("#banner")
        shown.page.set_input_files("input[type=file]", str(tmp_path / "five.png"))
        shown.page.wait_for_function("() => document.querySelector('#ledger').innerText.includes('uploaded')")
        assert not shown.page.locator("#banner").is_visible()
        shown.page.reload()
        shown.page.wait_for_selector("#banner:not([hidden])")
        assert "an image of your own (upload it again)" in shown.text("#banner")
        shown.close()


@needs_chromium
def test_a_server_that_goes_leaves_saved_numbers_and_says_so(answers: Answers, document: dict[str, Any]) -> None:
    with chromium() as browser:
        shown = Shown(browser)
        app = TestClient(app_of(answers, document), base_url="http://localhost")
        gone = False

        def serve(route: Any) -> None:
            request = route.request
            path = request.url.removeprefix("http://localhost")
            if gone:
                route.abort()
                return
            found = app.request(request.method, path, content=request.post_data_buffer, headers=request.headers)
            route.fulfill(status=found.status_code, body=found.content, content_type=found.headers["content-type"])

        shown.page.route("**/*", serve)
        shown.open("http://localhost/")
        gone = True
        shown.press(*shown.station(1))
        shown.page.wait_for_selector("#ledger.stale")
        assert "no longer answers" in shown.text("#banner")
        gone = False
        shown.page.wait_for_selector("#ledger:not(.stale)", timeout=10_000)
        shown.close()


def test_times_are_asked_for_by_several_threads_and_the_server_lives(client: TestClient, answers: Answers) -> None:
    found: list[float] = []

    def ask(unit: int) -> None:
        found.extend(event["value"] for event in events(client, f"/api/time?path={alone(answers, unit)}"))

    threads = [threading.Thread(target=ask, args=(unit,)) for unit in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert min(found) > 0
