"""Damaged requests to the page: uploads, questions, whatever else it is asked."""

import json
import pathlib
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmer_jax import app
from mmer_jax.inference import app_security, app_views
from mmer_jax.inference.predictor import Predictor
from tests.inference import odd_recordings as odd
from tests.inference import tiny_models
from tests.inputs import damage, guard
from tests.inputs.guard import REFUSED, Damaged
from tests.inputs.test_recordings import recordings, wavs

MB = 0.25  # of an upload
WAV = odd.encoded(odd.voice(0.3))
BOUNDARY = b"0123456789abcdef"
TYPE = "multipart/form-data; boundary=" + BOUNDARY.decode()
NAMES = (
    "a.wav", "../../canary.wav", "/etc/passwd", "..", "", "a" * 5000, "a\0.wav", "\r\n", "é.wav",
    "con", "a/b\\c.wav", ".htaccess", "%2e%2e%2fx", "<script>.wav", "${1}.wav",
)  # fmt: skip


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(tiny_models.made(tmp_path_factory.mktemp("page")), batch_sizes=(1,))


@pytest.fixture(scope="module")
def client(predictor, temporary):
    """The page's own routes and middlewares, without a server."""
    gradio = pytest.importorskip("gradio", reason="Gradio isn't installed: pip install -e .[app]")
    from gradio.routes import App
    from starlette.middleware import Middleware
    from starlette.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(temporary))
        blocks = app.build(gradio, predictor, max_mb=MB)
        blocks.max_file_size = int(MB * 2**20)
        middleware = [
            Middleware(app_security.secured), Middleware(app_security.bounded, int(MB * 2**20)),
        ]  # fmt: skip
        served = App.create_app(blocks, app_kwargs={"middleware": middleware, "openapi_url": None})
        blocks.server_app = blocks.app = served
        blocks.is_running = True
        with TestClient(served, raise_server_exceptions=False) as found:
            yield found


def part(name="files", filename="a.wav", data=WAV, head=()):
    disposition = f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    lines = [f"Content-Disposition: {disposition}", "Content-Type: audio/wav", *head]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data


def multipart(*parts):
    body = b"".join(b"--" + BOUNDARY + b"\r\n" + p + b"\r\n" for p in parts)
    return body + b"--" + BOUNDARY + b"--\r\n"


@st.composite
def uploads(draw):
    """(body, content type, query) of an upload."""
    way = draw(
        st.sampled_from(("bytes", "bytes", "name", "parts", "field", "large", "heads", "type"))
    )
    body, kind, query, must = multipart(part()), TYPE, "", ""
    if way == "bytes":
        found = draw(damage.damaged_bytes(body, 0.8))
        body, way = found.data, found.how
    elif way == "name":
        body = multipart(part(filename=draw(st.sampled_from(NAMES))))
    elif way == "parts":
        body = multipart(*[part(data=b"x")] * draw(st.sampled_from((0, 2, 50, 1001))))
    elif way == "field":
        name = draw(st.sampled_from(("files", "other", "", "x" * 9000)))
        body = multipart(part(name, None, draw(st.sampled_from((b"", b"x" * 1000)))))
        query = draw(st.sampled_from(("", "?upload_id=a", "?upload_id=")))
    elif way == "large":
        size = draw(st.sampled_from((int(MB * 2**20) + 1, 2**21)))
        body, must = multipart(part("x", draw(st.sampled_from(("a", None))), bytes(size))), ""
        must = REFUSED if size == 2**21 else ""
    elif way == "heads":
        body = multipart(
            part(head=[f"X-{i}: {'y' * 400}" for i in range(draw(st.integers(1, 60)))])
        )
    else:
        kind = draw(st.sampled_from((
            "", "multipart/form-data", "multipart/form-data; boundary=", "application/json",
            "multipart/form-data; boundary=" + "x" * 9000, "multipart/form-data; boundary=other",
            TYPE + "; charset=nonsense", TYPE + "; charset=utf-7",
        )))  # fmt: skip
    return Damaged((body, kind, query), way, must)


class Refusal(Exception):
    """The answer to a request that is refused: its code and its sentence."""


def answered(response):
    """An answer; raises `Refusal` for a code of 4xx, or 503, with a sentence."""
    if 400 <= response.status_code < 500 or response.status_code == 503:
        said = response.text.strip()
        assert said and "Traceback" not in said and ".py" not in said
        raise Refusal(said)
    assert response.status_code < 400, f"{response.status_code}: {response.text[:300]}"
    return response


def test_uploads(client, temporary):
    def send(data):
        body, kind, query = data
        headers = {"content-type": kind} if kind else {}
        paths = answered(client.post(f"/gradio_api/upload{query}", content=body, headers=headers))
        return [pathlib.Path(p) for p in paths.json()]

    (first,) = send((multipart(part()), TYPE, ""))
    assert first.read_bytes() == WAV

    def check(paths):
        for path in paths:
            assert path.parent.parent == temporary and path.is_file() and not path.is_symlink()
            assert path.stat().st_size <= MB * 2**20

    @given(uploads())
    def run(damaged):
        guard.judge("page: uploads", damaged, lambda: send(damaged.data),
                    lambda x: x == [first], check, Refusal)  # fmt: skip

    run()


QUESTION = {"data": [None, "I told you.", False], "fn_index": 0, "session_hash": "abc",
            "event_data": None, "trigger_id": 3}  # fmt: skip
PATHS = (
    "/etc/passwd",
    "http://127.0.0.1:1/a.wav",
    "file:///etc/passwd",
    "../../canary",
    "/dev/zero",
    "",
)
FILES = [
    {"path": path, "url": url, "orig_name": "a.wav", "mime_type": "audio/wav", "size": -1,
     "meta": {"_type": "gradio.FileData"}}
    for path in PATHS for url in (None, PATHS[1])
]  # fmt: skip
ROUTES = (
    "queue/join", "run/predict", "run/x", "api/predict", "call/x", "call/v2/x", "cancel", "reset",
    "component_server", "stream/x", "process_recording", "vibe-edit", "upload",
)  # fmt: skip
SERVED = ("file=", "file/", "proxy=", "stream/", "custom_component/")


def test_questions(client):
    """JSON to every route that takes some: with other files than uploads, too."""

    def send(data):
        route, body = data
        headers = {"content-type": "application/json"}
        return answered(client.post(f"/gradio_api/{route}", content=body, headers=headers))

    for route in ROUTES:  # what Gradio imports late is not what is run of an input
        client.post(f"/gradio_api/{route}", json=QUESTION)
    values = (*damage.VALUES, *FILES, 10**6, "x" * 2_000_000)
    bodies = st.one_of(
        damage.damaged_json(QUESTION, values), damage.damaged_json(QUESTION, values),
        damage.damaged_bytes(json.dumps(QUESTION).encode()),
    )  # fmt: skip

    @given(st.sampled_from(ROUTES), bodies)
    def run(route, damaged):
        damaged = Damaged((route, damaged.data), f"{route}: {damaged.how}")
        guard.judge("page: questions", damaged, lambda: send(damaged.data), lambda x: False,
                    refusals=Refusal)  # fmt: skip

    run()


def test_files_of_the_server(client):
    """No path leads to a file that was not uploaded."""
    paths = st.one_of(st.sampled_from((*PATHS, *NAMES)), st.text(max_size=40))

    @given(paths, st.sampled_from(SERVED))
    def run(path, route):
        damaged = Damaged(path, f"{route}{path!r:.60}", REFUSED)
        guard.judge(
            "page: files", damaged,
            lambda: answered(client.get(f"/gradio_api/{route}{quoted(path)}")),
            lambda x: False, refusals=Refusal,
        )  # fmt: skip

    run()


def quoted(path):
    return urllib.parse.quote(path, safe="/:=?&%", errors="surrogatepass")


def test_what_a_visitor_uploaded(predictor, tmp_path_factory, monkeypatch):
    """The page says in a sentence what is wrong with a recording, and hides where it lies."""
    path = tmp_path_factory.mktemp("uploaded") / "a.wav"
    monkeypatch.setattr(type(predictor), "predict", lambda self, audio, text: audio[0])
    monkeypatch.setattr(app_views, "shown", lambda p, prediction, wave, name: prediction.tobytes())
    path.write_bytes(WAV)
    expected = app_views.answer(predictor, str(path), "I told you.", False)

    def ask():
        html = app_views.answer(predictor, str(path), "I told you.", False)
        if isinstance(html, str):
            assert 'role="alert"' in html and str(path) not in html and "went wrong" not in html
            raise Refusal(html)
        return html

    @given(st.one_of(wavs(), recordings()))
    def run(damaged):
        path.write_bytes(damaged.data)
        free = Damaged(damaged.data, damaged.how)
        guard.judge("page: recordings", free, ask, lambda x: x == expected, refusals=Refusal)

    run()
