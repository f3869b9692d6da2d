"""The page: what it says, and that a browser shows it without asking anyone else."""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import jax
import numpy as np
import pytest

from mmer_jax import app
from mmer_jax.errors import UserError
from mmer_jax.inference import attention, chunking, guard, model_folder, page, uploads
from mmer_jax.inference.prediction import Prediction, Window
from mmer_jax.inference.predictor import Predictor
from mmer_jax.reporting import html
from tests.inference import odd_recordings as odd
from tests.inference import tiny_models

WORDS = "I told you it was you who broke the jacket."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def model(folder):
    return tiny_models.made(folder)


@pytest.fixture(scope="module")
def answers(model):
    return page.Answers(Predictor(model, batch_sizes=(1,)))


def upload(folder, data=None, name="a.wav"):
    path = folder / name
    path.write_bytes(odd.encoded(odd.voice(1.0)) if data is None else data)
    return str(path)


def prediction(text="", source="none", parts=1, calibrated=True):
    p = {"ang": 0.25, "hap": 0.6, "<x>": 0.15}
    line = [Window(6.0 * i, 6.0 * i + 12, "hap", p, text) for i in range(parts)]
    return Prediction(
        "hap", p, calibrated, np.zeros(3), text, source, line[-1].end, tuple(line), {}
    )


def test_an_upload_is_read_once_and_its_file_removed(tmp_path):
    path = upload(tmp_path)
    first = uploads.take(path, None)
    assert first.name == "a.wav" and first.seconds == 1.0 and not os.path.exists(path)
    assert uploads.take(None, first) is first
    second = uploads.take(upload(tmp_path, name="b.wav"), first)
    assert second.name == "b.wav"
    with pytest.raises(UserError, match="removed already"):
        uploads.take(path, second)
    with pytest.raises(UserError, match="no recording yet"):
        uploads.take(None, None)


@pytest.mark.parametrize("data, message", [
    (b"Dear diary, " * 50, "a.wav can't be read as audio .* for example wav, flac"),
    (b"", "a.wav is empty"),
    (odd.encoded(odd.tone(0.01)), "a.wav has 10.0 ms of audio; expected at least 30 ms"),
])  # fmt: skip
def test_what_is_no_recording_is_said_and_removed(data, message, tmp_path):
    path = upload(tmp_path, data)
    with pytest.raises(UserError, match=message) as e:
        uploads.take(path, None)
    assert "array" not in str(e.value) and str(tmp_path) not in str(e.value)
    assert not os.path.exists(path)


def test_the_memory_forgets():
    def recording(seconds=1.0):
        return uploads.Recording("a", np.zeros(round(seconds * 16_000), np.float32))

    memory = uploads.Memory(0.5, 2)
    kept = [recording() for _ in range(3)]
    keys = [memory.keep(r) for r in kept]
    assert memory.pop(keys[0]) is None and memory.pop(None) is None
    assert memory.pop(keys[2]) is kept[2] and memory.pop(keys[2]) is None
    assert memory.keep(recording(uploads.KEPT_SECONDS + 1)) is memory.keep(None) is None
    time.sleep(1.0)
    assert not memory._kept


def test_what_is_asked_for(folder, model):
    def asked(text, alone, of=model):
        return page.asked_text(of, text, alone)

    assert asked(" told ", False) == "told" and asked("told", True) == ""
    assert asked("", False) is None and asked(None, False) is None
    without = dataclasses.replace(model, config=model.config.copy_and_resolve_references())
    without.config.losses.ctc.weight = 0.0
    with pytest.raises(UserError, match="can't write down"):
        asked("", False, without)
    assert asked("", True, without) == ""
    audio, text = tiny_models.made(folder, "audio"), tiny_models.made(folder, "text")
    assert asked("told", False, audio) == ""
    assert asked("told", True, text) == "told"
    with pytest.raises(UserError, match="no text yet"):
        asked(" ", False, text)


def test_the_introduction_warns(model):
    text = page.introduction(model)
    assert "Not fit for decisions about people" in text and "synthetic" not in text
    assert "anger, happiness, neutral, sadness" in text
    demo = model.config.copy_and_resolve_references()
    demo.name = "demo"
    assert "synthetic" in page.introduction(dataclasses.replace(model, config=demo))


def test_the_verdict():
    text = page.verdict(prediction())
    assert "<strong>happiness</strong> 60 %" in text and text.count("<tr") == 3
    assert text.count('class="top"') + text.count("class=top") == 1
    assert "&lt;x&gt;" in text and "<x>" not in text
    assert "not calibrated" in page.verdict(prediction(calibrated=False))


def test_no_emotion_is_named_without_speech_or_near_chance(answers):
    silent = dataclasses.replace(
        prediction(parts=3), label=None, probabilities={}, speech=False, warning="no speech found"
    )
    unsure = dataclasses.replace(prediction(parts=3), warning="hardly better than guessing: 31 %")
    for found, words in ((silent, "No speech was found"), (unsure, "31 %")):
        shown = page.verdict(found)
        assert words in shown and 'class="verdict"' not in shown and "<table" not in shown
        assert page.timeline(found, np.zeros(24 * 16_000, np.float32)) == ""
    shown = answers(uploads.Recording("a.wav", np.zeros(16_000, np.float32)), WORDS)
    assert "No speech was found" in shown and "Where the words look" not in shown
    spoken = uploads.Recording("a.wav", odd.voice(1.0)[:, 0].astype(np.float32))
    assert "right in 76 %" in answers(spoken, WORDS) and "right in 45 %" in answers(spoken, "")


def test_a_window_without_speech_has_no_emotion_over_time():
    found = prediction("told you", "ctc", 3)
    quiet = dataclasses.replace(found.timeline[0], label=None, probabilities={}, speech=False)
    found = dataclasses.replace(found, timeline=(quiet, *found.timeline[1:]))
    text = page.timeline(found, np.ones(24 * 16_000, np.float32))
    assert text.count("no speech") == 1 and text.count("60 %") == 2


def test_where_the_text_came_from():
    assert "As you typed" in page.transcript(prediction("told", "given"), True)
    assert "model itself" in page.transcript(prediction("told", "ctc"), True)
    assert "heard no words" in page.transcript(prediction("", "ctc"), True)
    assert "read no text" in page.transcript(prediction(), True)
    assert "reads no text" in page.transcript(prediction(), False)
    evil = page.transcript(prediction("<script>${x}</script>", "given"), True)
    assert "<script" not in evil
    shown = page.result(evil) + page.failure("`${x}` {{y}} <b>")
    assert not set("$`{}") & set(shown) and "<b>" not in shown


def test_the_timeline():
    found = prediction("told you", "ctc", 3)
    wave = np.random.default_rng(0).standard_normal(24 * 16_000).astype(np.float32)
    assert page.timeline(prediction(), wave) == ""
    text = page.timeline(found, wave)
    assert "0:00.0–0:09.0" in text and "0:15.0–0:24.0" in text and text.count("told you") == 3
    assert "told" not in page.timeline(prediction("told you", "given", 3), wave)
    spans = chunking.cut(24 * 16_000, 12 * 16_000)
    expected = [(s.own_start / 16_000, s.own_end / 16_000) for s in spans]
    assert page.own_parts(found) == expected
    assert page.clock(75.25) == "1:15.2"


def pngs(text):
    parts = text.split("data:image/png;base64,")[1:]
    return [html.png_size(base64.b64decode(part.split('"')[0])) for part in parts]


def test_an_answer_shows_the_attention(answers):
    recording = uploads.Recording("a.wav", odd.voice(1.0)[:, 0].astype(np.float32))
    text = answers(recording, WORDS)
    assert "Where the words look" in text and len(pngs(text)) == 1
    assert "a.wav, 1.0 s" in text and "data:audio/wav;base64," in text
    few, many = (pngs(answers(recording, WORDS * n))[0] for n in (1, 2))
    assert many[1] > few[1]
    alone = answers(recording, "")
    assert "no words that could look" in alone and len(pngs(alone)) == 1


def test_an_answer_over_several_windows(answers):
    seconds = answers.model.config.data.max_seconds + 1
    text = answers(uploads.Recording("a.wav", odd.voice(seconds)[:, 0].astype(np.float32)), WORDS)
    assert "Over time" in text and "the surest one" in text and len(pngs(text)) == 2


def test_the_attention_is_the_models_own(answers, model):
    wave = odd.voice(0.9)[:, 0].astype(np.float32)
    found = attention.Reader(answers._predictor)(wave, WORDS)
    ids = model.tokenizer.ids(WORDS)[None]
    batch = {"audio": wave[None], "audio_length": np.array([len(wave)]), "text_ids": ids,
             "text_mask": np.ones_like(ids)}  # fmt: skip
    _, out = jax.jit(model.model.apply)({"params": model.params}, batch)
    frames = int(out["audio_mask"].sum())
    expected = out["text_to_audio_attention"].mean(1)[0, :, :frames]
    np.testing.assert_allclose(found.weights, expected, atol=1e-5)
    assert len(found.tokens) == ids.shape[1] and "told" in found.tokens
    np.testing.assert_allclose(found.weights.sum(-1), 1, atol=1e-5)


def test_models_without_attention_say_why(folder, model):
    answers = page.Answers(Predictor(tiny_models.made(folder, "audio"), batch_sizes=(1,)))
    memory = uploads.Memory(60, 2)
    shown, path, key = app.answered(answers, memory, upload(folder), None, None, None)
    again, _, key = app.answered(answers, memory, None, None, None, key)
    assert path is None and again.split("Answered")[0] == shown.split("Answered")[0]
    assert memory.pop(key).seconds == 1.0 and not memory._kept
    assert "hears speech alone: there is no attention" in shown and len(pngs(shown)) == 1
    concat = dataclasses.replace(model, config=model.config.copy_and_resolve_references())
    concat.config.model.fusion = "concat"
    assert "side by side" in attention.lacking(concat)


def test_every_mistake_is_a_message_in_the_page(answers, tmp_path, monkeypatch, capsys):
    asked = functools.partial(app.answered, answers, uploads.Memory(60, 2))
    shown, path, key = asked(None, "", False, None)
    assert 'role="alert"' in shown and "no recording yet" in shown and path is key is None
    shown, path, key = asked(upload(tmp_path, b"hello" * 99), "", False, None)
    assert "can&#x27;t be read as audio" in shown and path is key is None

    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(uploads, "take", broken)
    shown, _, _ = asked("a", "", False, None)
    assert "went wrong" in shown and "secret" not in shown and "Traceback" not in shown
    assert "secret" in capsys.readouterr().err


def test_closed_addresses():
    for path in ("/gradio_api/info", "/gradio_api/info/", "/gradio_api/openapi.json", "/docs",
                 "/monitoring/summary", "/gradio_api/proxy=https://x.hf.space/"):  # fmt: skip
        assert guard.is_closed(path)
    for path in ("/", "/config", "/gradio_api/upload", "/gradio_api/queue/join", "/assets/info.js"):
        assert not guard.is_closed(path)


def test_an_upload_that_is_gone_meanwhile_is_not_found():
    async def broken(scope, receive, send):
        raise RuntimeError("File at path a does not exist.")

    async def status(path):
        sent = []

        async def send(message):
            sent.append(message)

        await guard.Guard(broken)({"type": "http", "path": path}, None, send)
        return sent[0]["status"]

    assert asyncio.run(status("/gradio_api/file=a")) == 404
    with pytest.raises(RuntimeError):
        asyncio.run(status("/config"))


def test_others_are_warned_of():
    assert app.greeting("127.0.0.1", 7860).count("\n") == 0
    warned = app.greeting("0.0.0.0", 7860)
    assert "http://127.0.0.1:7860" in warned and "warning: listening on 0.0.0.0" in warned


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    for option in ("--port=x", "--port=70000", "--max-mb=0"):
        with pytest.raises(SystemExit) as e:
            app.main(["m", option])
        assert e.value.code == 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert app.main(["m", f"--port={taken.getsockname()[1]}"]) == 1
    assert app.main(["m", "--host=203.0.113.7"]) == 1
    printed = capsys.readouterr().err
    assert "Address already in use" in printed and "203.0.113.7" in printed
    assert "Traceback" not in printed


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def served(folder, model, tmp_path_factory):
    """Address of the app, and the folder that its temporary files are in."""
    pytest.importorskip("gradio", reason="Gradio isn't installed: pip install -e .[app]")
    demo = dataclasses.replace(model, config=model.config.copy_and_resolve_references())
    demo.config.name, demo.card["name"] = "demo", "demo"
    model_folder.write(demo, str(folder / "written"))
    temporary, port = tmp_path_factory.mktemp("temporary"), free_port()
    command = [sys.executable, "-m", "mmer_jax.app", str(folder / "written"), f"--port={port}"]
    log = temporary.parent / "app.log"
    with open(log, "wb") as f:
        environment = os.environ | {"TMPDIR": str(temporary)}
        process = subprocess.Popen([*command, "--max-mb=1"], stdout=f, stderr=f, env=environment)
    try:
        deadline = time.monotonic() + 120
        while "Open http" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", temporary
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
    printed = log.read_text()
    assert "Traceback" not in printed and "recordings are removed" in printed
    assert not list(temporary.glob("mmer-app-*"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, whose requests and messages are logged."""
    pytest.importorskip("selenium", reason="selenium isn't installed: pip install -e .[test]")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium isn't installed: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run",
                 "disable-background-networking", "disable-component-update", "disable-sync",
                 f"user-data-dir={tmp_path_factory.mktemp('profile')}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def wait_for(browser, selector, text=""):
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def found(_):
        there = browser.find_elements("css selector", selector)
        return next((x for x in there if text in x.get_attribute("textContent")), None)

    ignored = (StaleElementReferenceException,)
    return WebDriverWait(browser, 60, 0.1, ignored).until(found, f"{selector} with {text!r}")


LOADED = """return performance.getEntriesByType("resource")
  .filter(e => e.name.includes("file=") && e.responseEnd > 0).length"""


def send(browser, path):
    """Uploads a file and waits until the page's player has fetched it, before it is removed."""
    before = browser.execute_script(LOADED)
    wait_for(browser, "#recording input[type=file]").send_keys(str(path))
    wait_for(browser, "#recording button[aria-label=Play]")
    deadline, last = time.monotonic() + 30, before
    while last == before or browser.execute_script(LOADED) != last:
        assert time.monotonic() < deadline
        last = browser.execute_script(LOADED)
        time.sleep(1.0)


def ask(browser):
    wait_for(browser, "button.primary").click()


def look(browser, width, folder):
    """A screenshot at a phone's or a desktop's width; nothing is wider than the page."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    (folder / f"{width}.png").write_bytes(base64.b64decode(shot["data"]))
    assert wide <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def requested(browser):
    """Whom the browser asked, without its own start page."""
    entries = [json.loads(x["message"])["message"] for x in browser.get_log("performance")]
    urls = [x["params"]["request"]["url"] for x in entries
            if x["method"] == "Network.requestWillBeSent"]  # fmt: skip
    hosts = {urllib.parse.urlsplit(url) for url in urls}
    return {u.hostname for u in hosts if u.scheme not in ("data", "blob", "chrome")}


def test_in_a_browser(served, browser, tmp_path):
    address, temporary = served
    browser.get(address)
    assert "synthetic" in wait_for(browser, ".mmer", "Not fit for decisions").text
    upload(tmp_path, name="${1+1} speech.wav")
    send(browser, next(tmp_path.glob("*.wav")))
    ask(browser)
    wait_for(browser, "#answer .verdict")
    wait_for(browser, "#answer .caption", "Written by the model itself")
    picture = wait_for(browser, "#answer img[alt^=attention]")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) > 500
    assert not [p for p in temporary.rglob("*") if p.is_file()]
    look(browser, 375, tmp_path)
    look(browser, 1280, tmp_path)

    # The recording is kept for another question, though its file is gone.
    wait_for(browser, "textarea").send_keys(f"{WORDS} ${{1+1}} {{{{value}}}} <b>")
    ask(browser)
    wait_for(browser, "#answer .words", "${1+1} {{value}} <b>")

    send(browser, upload(tmp_path, b"Dear diary, " * 50, "diary.wav"))
    ask(browser)
    shown = wait_for(browser, "#answer .failure", "diary.wav can't be read as audio")
    assert "Traceback" not in shown.text and not browser.find_elements("css selector", ".verdict")
    assert not [p for p in temporary.rglob("*") if p.is_file()]

    problems = [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
    assert not problems and requested(browser) == {"127.0.0.1"}

    large = upload(tmp_path, odd.encoded(odd.tone(40.0)), "large.wav")
    wait_for(browser, "#recording input[type=file]").send_keys(large)
    wait_for(browser, "body", "exceed the maximum allowed size of 1")


def get(url, **headers):
    with contextlib.suppress(urllib.error.HTTPError):
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)


def test_the_server_shuts_its_doors(served):
    address, _ = served
    assert "default-src 'self'" in get(address).headers["content-security-policy"]
    assert get(address, Host="evil.example") is None
    for path in ("gradio_api/info", "gradio_api/openapi.json", "docs", "monitoring/summary"):
        assert get(f"{address}/{path}") is None
    assert get(f"{address}/gradio_api/file={pathlib.Path(__file__).resolve()}") is None
