"""The page: its answers, and that a browser shows it without asking anyone else."""

import asyncio
import base64
import concurrent.futures
import contextlib
import dataclasses
import functools
import gc
import io
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
import soundfile

from benchmarks import load
from mmer_jax import app, runs
from mmer_jax.errors import UserError
from mmer_jax.inference import app_views, app_visitors, examples
from mmer_jax.inference.prediction import Prediction, Window
from mmer_jax.inference.predictor import Predictor
from mmer_jax.reporting import plots
from mmer_jax.training import checkpoint_io
from tests.harness import free_port, png_size
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
def predictor(model):
    return Predictor(model, batch_sizes=(1,))


@pytest.fixture
def ask(predictor):
    """A function: recording's path, text, whether speech alone -> the page's HTML."""
    return functools.partial(app_views.answer, predictor)


def upload(folder, data=None, name="a.wav", seconds=1.0):
    path = folder / name
    path.write_bytes(odd.encoded(odd.voice(seconds)) if data is None else data)
    return str(path)


def changed(model, **options):
    """The model with other options of its config, by their last name."""
    config = model.config.copy_and_resolve_references()
    with config.unlocked():
        for path, value in options.items():
            config.update_from_flattened_dict({path.replace("__", "."): value})
    return dataclasses.replace(model, config=config)


def prediction(text="", source="none", windows=1, calibrated=True, **changes):
    p = {"ang": 0.25, "hap": 0.6, "neu": 0.15}
    line = [Window(6.0 * i, 6.0 * i + 12, "hap", p, text) for i in range(windows)]
    found = Prediction(
        "hap", p, calibrated, np.zeros(3), text, source, line[-1].end, tuple(line), {"read": 0.1}
    )
    return dataclasses.replace(found, **changes)


def shown(predictor, found, pictures=False):
    """The page's answer for a prediction of any recording."""
    wave = np.zeros(round(found.seconds * 16_000), np.float32) if pictures else None
    return app_views.shown(predictor, found, wave)


def pngs(text):
    parts = text.split("data:image/png;base64,")[1:]
    return [png_size(base64.b64decode(part.split('"')[0])) for part in parts]


@pytest.mark.parametrize("data, message", [
    (b"Dear diary, " * 50, "a.wav can&#39;t be read as audio .* for example wav, flac"),
    (b"", "a.wav is empty"),
    (odd.encoded(odd.tone(0.01)), "a.wav has 10.0 ms of audio; expected at least 30 ms"),
])  # fmt: skip
def test_a_file_that_is_no_recording_is_one_message(ask, data, message, tmp_path):
    text = ask(upload(tmp_path, data), "", False)
    assert re.search(message, text) and 'role="alert"' in text
    assert "array" not in text and str(tmp_path) not in text


def test_every_mistake_is_a_message_in_the_page(ask, tmp_path, monkeypatch, capsys):
    assert "no recording yet" in ask(None, "", False)
    assert "removed meanwhile" in ask(str(tmp_path / "gone.wav"), "", False)

    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(app_views, "requested_text", broken)
    text = ask("a", "", False)
    assert "went wrong" in text and "secret" not in text and "Traceback" not in text
    assert "secret" in capsys.readouterr().err


def test_the_text_that_is_asked_for(folder, model):
    def requested(text, alone, of=model, transcriber=None):
        predictor = Predictor(of, transcriber=transcriber)
        return app_views.requested_text(predictor, text, alone)

    assert requested(" told ", False) == "told" and requested("told", True) == ""
    assert requested("", False) is None and requested(None, False) is None
    without = changed(model, losses__ctc__weight=0.0)
    with pytest.raises(UserError, match="can't write down"):
        requested("", False, without)
    assert requested("", True, without) == ""
    assert requested("", False, without, object()) is None
    audio, text = tiny_models.made(folder, "audio"), tiny_models.made(folder, "text")
    assert requested("told", False, audio) == ""
    assert requested("told", True, text) == "told"
    with pytest.raises(UserError, match="no text yet"):
        requested(" ", False, text)


def test_the_introduction_warns(model):
    text = app_views.introduction(model)
    assert "Not fit for decisions about people" in text and "synthetic" not in text
    assert "anger (ang), happiness (hap), neutral (neu), sadness (sad)" in text
    assert "synthetic" in app_views.introduction(changed(model, name="demo"))


def test_the_emotion_and_its_probabilities(predictor):
    text = shown(predictor, prediction())
    assert "<strong>happiness</strong> 60 %" in text and text.count("<tr") == 3
    assert text.count('class="top"') == 1 and "not calibrated" not in text
    assert "not calibrated" in shown(predictor, prediction(calibrated=False))


def test_no_emotion_is_named_without_speech_or_near_chance(predictor, ask, tmp_path):
    silent = prediction(
        windows=3, label=None, probabilities={}, speech=False, warning="no speech found"
    )
    unsure = prediction(windows=3, warning="hardly better than guessing: 31 %")
    for found, words in ((silent, "No speech was found"), (unsure, "31 %")):
        text = shown(predictor, found, True)
        assert words in text and 'class="emotion"' not in text and "<table" not in text
    text = ask(upload(tmp_path, odd.encoded(np.zeros(16_000))), WORDS, False)
    assert "No speech was found" in text and "Where the words look" not in text
    path = upload(tmp_path)
    assert "right in 76 %" in ask(path, WORDS, False) and "right in 45 %" in ask(path, "", True)


def test_the_source_of_the_text(predictor, folder):
    assert "As you typed" in shown(predictor, prediction("told", "gold"))
    sure = {"recognizer": "tiny-1", "confidence": 0.875, "no_speech": 0.1, "note": ""}
    asr = dataclasses.replace(prediction("told", "asr"), recognition=sure)
    assert "tiny-1, 88 % sure" in shown(predictor, asr)
    assert "model itself" in shown(predictor, prediction("told", "ctc"))
    # What is hardly what was said is no transcript.
    for known, found in (
        (True, asr), (False, dataclasses.replace(asr, recognition=sure | {"confidence": 0.4})),
        (True, prediction("told", "ctc", held_out={"wer": 0.2})),
        (False, prediction("told", "ctc", held_out={"wer": 0.9})),
        (False, prediction("told", "ctc")),
    ):  # fmt: skip
        text = shown(predictor, found, True)
        assert ("<blockquote" in text) == known and ("Uncertain" in text) != known
        assert "told" in text and ("Where the words look is not shown" in text) != known
    assert "No words were recognised" in shown(predictor, prediction("", "ctc"))
    assert "read no text" in shown(predictor, prediction())


def test_texts_from_outside_are_shown_as_they_are(predictor):
    evil = "<script>${x}</script> `{{y}}`"
    for text in (shown(predictor, prediction(evil, "gold")), app_views.result("failure", evil)):
        assert "<script" not in text and not set("$`{}") & set(text)


def test_the_timeline(predictor):
    assert "Over time" not in shown(predictor, prediction("told you", "ctc"), True)
    found = prediction("told you", "ctc", 3, held_out={"wer": 0.2})
    text = shown(predictor, found, True)
    assert "0:00.0–0:09.0" in text and "0:15.0–0:24.0" in text
    assert text.count(plots.EMOTIONS["hap"]) == 4  # the bar, and each window
    garbage = shown(predictor, dataclasses.replace(found, held_out={"wer": 0.9}), True)
    assert garbage.count("told you") == 1 and len(pngs(garbage)) == 1
    assert text.count("told you") == 4 and len(pngs(text)) == 2
    given = shown(predictor, prediction("told you", "gold", 3), True)
    assert given.count("told you") == 1
    quiet = dataclasses.replace(found.timeline[0], label=None, probabilities={}, speech=False)
    text = shown(predictor, dataclasses.replace(found, timeline=(quiet, *found.timeline[1:])), True)
    assert text.count("no speech") == 1 and text.count("60 %") == 4
    assert app_views.clock(75.25) == "1:15.2"


def test_an_answer_shows_the_attention(ask, tmp_path):
    path = upload(tmp_path)
    few, many = (ask(path, WORDS * n, False) for n in (1, 2))
    assert "Where the words look" in few and len(pngs(few)) == 1
    assert pngs(many)[0][1] > pngs(few)[0][1]
    alone = ask(path, "", True)
    assert "no words that could attend" in alone and len(pngs(alone)) == 1


def test_an_answer_over_several_windows(ask, model, tmp_path):
    seconds = model.config.data.max_seconds + 1
    text = ask(upload(tmp_path, seconds=seconds), WORDS, False)
    assert "Over time" in text and "most confident window" in text and len(pngs(text)) == 2


def test_models_without_attention_say_why(folder, model, tmp_path):
    predictor = Predictor(tiny_models.made(folder, "audio"), batch_sizes=(1,))
    text = app_views.answer(predictor, upload(tmp_path), None, None)
    assert "there is no attention from text to speech" in text and len(pngs(text)) == 1
    assert "side by side" in app_views.lacks_attention(changed(model, model__fusion="concat"))


def test_examples_of_a_folder_and_of_a_demo(tmp_path, model, tiny_run, prepared):
    titles = app_views.titles(model)
    upload(tmp_path, name="b.wav")
    upload(tmp_path, name="a.wav", seconds=0.5)
    (tmp_path / "t.csv").write_text("audio,text\nb.wav,Well then\n")
    found = examples.of_files(str(tmp_path))
    assert [x.title for x in found] == ["a", "b"] and found[0].text == ""
    wave, rate = soundfile.read(io.BytesIO(found[0].wav))
    assert (len(wave), rate) == (8000, 16_000)
    (named,) = examples.of_files(str(tmp_path / "t.csv"))
    assert (named.title, named.text) == ("b", "Well then")
    with pytest.raises(UserError, match="nowhere"):
        examples.of_files(str(tmp_path / "nowhere"))
    fold = f"{tiny_run}/fold5"
    demo = changed(checkpoint_io.read(fold), name="demo")
    shown = examples.of_demo(fold, demo, titles)
    assert [x.title.partition(":")[0] for x in shown] == list(titles.values())
    tested = {p.transcript for p in runs.read_fold(fold).result.predictions}
    assert {x.text for x in shown} <= tested
    # Another corpus's recordings are not ours to show; nor is there any where nothing is.
    assert not examples.of_demo(fold, changed(demo, name="mine"), titles)
    assert not examples.of_demo(fold, changed(demo, data__dir=str(tmp_path)), titles)
    assert not examples.of_demo(str(tmp_path), demo, titles)


def test_a_recording_stays_while_its_page_is_open(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    one, other = (app_visitors.write(examples.Example("x", b"wav", "told"))[0] for _ in range(2))
    assert one != other and pathlib.Path(one).read_bytes() == b"wav"
    os.utime(one, (0, 0))
    app_visitors.keep(one)
    assert os.stat(one).st_mtime > 1e9
    forget = app_visitors.Recordings().forget
    assert forget(one, None) == forget(one, one) == forget(one, None) == one
    assert forget(other, one) == other and os.path.exists(one)  # another page has it as well
    assert forget(None, one) is None and not os.path.exists(one)
    app_visitors.keep(one)  # removed meanwhile
    app_visitors.keep(None)
    assert forget(other, one) == other and os.path.exists(other)


def test_an_address_in_place_of_an_upload_is_not_fetched():
    """Server-side request forgery: a visitor sends an address where a file's path belongs."""
    gradio = pytest.importorskip("gradio")
    audio = app.upload_class(gradio)(type="filepath")
    for address in ("http://127.0.0.1:1/a.wav", "file:///etc/passwd"):
        with pytest.raises(ValueError, match="not an upload"):
            asyncio.run(audio.async_move_resource_to_block_cache(address))


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


@pytest.fixture(scope="module")
def served(folder, model, tmp_path_factory):
    """Address of the app, and the folder that its temporary files are in."""
    pytest.importorskip("gradio", reason="Gradio isn't installed: pip install -e .[app]")
    demo = dataclasses.replace(model, config=model.config.copy_and_resolve_references())
    demo.config.name, demo.card["name"] = "demo", "demo"
    checkpoint_io.write(demo, str(folder / "written"))
    temporary, port = tmp_path_factory.mktemp("temporary"), free_port()
    command = [sys.executable, "-m", "mmer_jax.app", str(folder / "written"), f"--port={port}"]
    log = temporary.parent / "app.log"
    offered = temporary.parent / "offered.csv"
    offered.write_text(f"audio,text\n{upload(temporary.parent, name='said.wav')},{WORDS}\n")
    command += ["--max-mb=1", f"--examples={offered}"]
    with open(log, "wb") as f:
        environment = os.environ | {"TMPDIR": str(temporary)}
        process = subprocess.Popen(command, stdout=f, stderr=f, env=environment)
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


def until(browser, true):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, 0.1).until(lambda _: true())


def typed(browser):
    return browser.find_element("css selector", "textarea").get_property("value")


def send(browser, path):
    """Uploads a file in place of the one before, and waits for the page's player."""
    for old in browser.find_elements("css selector", "#recording button[aria-label=Clear]"):
        old.click()
    wait_for(browser, "#recording input[type=file]").send_keys(str(path))
    wait_for(browser, "#recording button[aria-label=Play]")


def press(browser):
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
    wait_for(browser, ".caption", "Up to one hour and 1 MB")
    send(browser, upload(tmp_path, name="${1+1} speech.wav"))
    press(browser)  # at once: the page has hardly told the server of the new recording
    wait_for(browser, "#answer .emotion")
    wait_for(browser, "#answer .caption", "Written by the model itself")
    picture = wait_for(browser, "#answer img[alt^=attention]")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) > 500
    look(browser, 375, tmp_path)
    look(browser, 1280, tmp_path)

    # The recording is still there for another question.
    wait_for(browser, "textarea").send_keys(f"{WORDS} ${{1+1}} {{{{value}}}} <b>")
    press(browser)
    wait_for(browser, "#answer .words", "${1+1} {{value}} <b>")

    # An example comes with its words, which are not those of the next recording.
    wait_for(browser, "#examples button", "said").click()
    wait_for(browser, "#answer", "will be shown here")
    until(browser, lambda: typed(browser) == WORDS)
    press(browser)
    wait_for(browser, "#answer .words", WORDS)
    send(browser, upload(tmp_path, b"Dear diary, " * 50, "diary.wav"))
    until(browser, lambda: typed(browser) == "")
    press(browser)
    shown = wait_for(browser, "#answer .failure", "diary.wav can't be read as audio")
    assert "Traceback" not in shown.text and not browser.find_elements("css selector", ".emotion")

    problems = [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
    assert not problems and requested(browser) == {"127.0.0.1"}

    # Removed, it takes the message and its file with it.
    browser.find_element("css selector", "#recording button[aria-label=Clear]").click()
    wait_for(browser, "#answer", "will be shown here")
    until(browser, lambda: not list(temporary.rglob("*.wav")))
    large = upload(tmp_path, odd.encoded(odd.tone(40.0)), "large.wav")
    wait_for(browser, "#recording input[type=file]").send_keys(large)
    wait_for(browser, "body", "exceed the maximum allowed size of 1")


def test_an_answer_is_not_shown_for_the_next_recording(served, browser, tmp_path):
    browser.get(served[0])
    send(browser, upload(tmp_path, name="before.wav", seconds=25.0))
    browser.execute_script("""
      window.answers = [];
      const note = () => window.answers.push(document.getElementById("answer").textContent);
      new MutationObserver(note).observe(document.getElementById("answer"),
                                         {childList: true, subtree: true, characterData: true});
    """)
    press(browser)
    send(browser, upload(tmp_path, name="next.wav"))
    press(browser)  # waits for the one before, which is computed to its end
    wait_for(browser, "#answer .caption", "next.wav")
    answers = browser.execute_script("return window.answers")
    assert answers and not [x for x in answers if "before.wav" in x]


def test_a_phone_has_the_answer_in_view(served, browser, tmp_path):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(served[0])
    send(browser, upload(tmp_path))
    press(browser)
    named = wait_for(browser, "#answer .emotion")
    where = "const r = arguments[0].getBoundingClientRect(); return [r.top, r.bottom]"
    until(browser, lambda: 0 <= browser.execute_script(where, named)[0] < 400)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def get(url, **headers):
    with contextlib.suppress(urllib.error.HTTPError):
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)


def test_the_server_shuts_its_doors(served):
    """Not to other sites' scripts (DNS rebinding), frames or hosts; no file but its uploads."""
    address, _ = served
    assert "default-src 'self'" in get(address).headers["content-security-policy"]
    assert get(address, Host="evil.example") is None
    assert get(f"{address}/gradio_api/file={pathlib.Path(__file__).resolve()}") is None
    # No answer holds what was asked.
    head = {"Content-Type": "application/json"}
    body = json.dumps({"data": "x" * 9999}).encode()
    asked = urllib.request.Request(f"{address}/gradio_api/queue/join", body, head)
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(asked, timeout=20)
    assert e.value.code == 400 and len(e.value.read()) < 100


@contextlib.contextmanager
def launched(predictor):
    """(blocks, port) of a page that is served in this process."""
    gradio = pytest.importorskip("gradio")
    blocks, port = app.build(gradio, predictor), free_port()
    app.launch(gradio, blocks, "127.0.0.1", port, 1.0)
    try:
        yield blocks, port
    finally:
        blocks.close(verbose=False)


def test_what_is_kept_of_visitors_is_of_the_last_ones(predictor, tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(app_visitors, "VISITORS", 4)
    with launched(predictor) as (_, port):
        visitors = load.Visitors(port)
        recording = tmp_path / "a.wav"
        recording.write_bytes(odd.encoded(odd.voice(0.1)))
        answers = [visitors.ask(recording) for _ in range(16)]
        assert all(x == answers[0] for x in answers)
        gc.collect()
        events = [x for x in gc.get_objects() if isinstance(x, gradio.queueing.Event)]
        assert len(events) < 8
        # Recordings as well, however many come meanwhile.
        files = [p for p in (tmp_path / "uploads").rglob("*") if p.is_file()]
        app_visitors.remove_old(str(tmp_path / "uploads"), 3600)
        assert files and all(p.exists() for p in files)
        app_visitors.remove_old(str(tmp_path / "uploads"), -1)
        assert list(tmp_path.glob("uploads/*")) == []


def test_who_waits_is_answered_however_many_others_come(predictor, tmp_path, monkeypatch):
    """The first visitor comes back and waits while a new one takes the place of the oldest."""
    answer = app_views.answer

    def slowly(*arguments):
        time.sleep(0.5)
        return answer(*arguments)

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(app_visitors, "VISITORS", 4)
    monkeypatch.setattr(app_views, "answer", slowly)
    with launched(predictor) as (blocks, port):
        visitors = load.Visitors(port)
        recording = tmp_path / "a.wav"
        recording.write_bytes(odd.encoded(odd.voice(0.1)))
        expected = [visitors.ask(recording, name) for name in ("first", "a", "b", "c")][0]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            asked = []
            for name in ("b", "c", "first", "new"):
                asked.append(pool.submit(visitors.ask, recording, name))
                time.sleep(0.1)  # in this order
            assert [x.result(60) for x in asked] == [expected] * 4
        assert not blocks._queue.stopped and visitors.ask(recording) == expected


def test_an_upload_is_out_of_others_reach_and_removed_after_a_while(
    predictor, tmp_path, monkeypatch
):
    httpx = pytest.importorskip("httpx")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(app, "KEPT_MINUTES", 0.05)
    with launched(predictor) as (_, port):
        files = f"http://127.0.0.1:{port}/gradio_api"
        data = {"files": ("a.wav", odd.encoded(odd.voice(0.1)))}
        path = pathlib.Path(httpx.post(f"{files}/upload", files=data).json()[0])
        assert path.exists() and get(f"{files}/file={path}").status == 200
        # Its folder is named by a hash of its content: it can be neither listed nor guessed.
        assert len(path.parent.name) == 64 and path.parent.parent == tmp_path
        for guess in (tmp_path, path.parent, tmp_path / "a.wav"):
            assert get(f"{files}/file={guess}") is None
        deadline = time.monotonic() + 30
        while path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.2)
