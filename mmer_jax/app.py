"""A page in the browser that predicts emotions: `python -m mmer_jax.app MODEL`."""

import contextlib
import functools
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings

import mmer_jax
from mmer_jax import cli
from mmer_jax.errors import UserError

KEPT_MINUTES = 10  # of uploaded recordings
WAITING = 16  # questions in the queue
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build(gradio, predictor, examples=(), max_mb: float = 25.0):
    """The page, Gradio's `Blocks`, not yet served.

    Args:
      gradio: the module.
      predictor: a `Predictor`.
      examples: see `inference.examples`.
      max_mb: of an uploaded recording.
    """
    from mmer_jax.inference import app_views, app_visitors

    model = predictor.model
    optional = not predictor.lacks_text
    writer = predictor.transcriber.name if predictor.transcriber else "the model"
    nothing = app_views.result("nothing_yet")
    recordings = app_visitors.Recordings()
    with gradio.Blocks(title="Emotion in speech", analytics_enabled=False) as blocks:
        html = functools.partial(gradio.HTML, apply_default_css=False, padding=True)
        html(app_views.introduction(model))
        before = gradio.State()  # path of the recording that was there before
        with gradio.Row():
            with gradio.Column(min_width=300):
                audio = upload_class(gradio)(
                    sources=["upload", "microphone"], type="filepath", label="Recording",
                    editable=False, buttons=[], visible=model.uses_audio, elem_id="recording",
                    waveform_options=app_views.WAVEFORM,
                )  # fmt: skip
                if model.uses_audio:
                    html(app_views.result("limits", max_mb, KEPT_MINUTES))
                text = gradio.Textbox(
                    label="What is said (optional)" if optional else "What is said",
                    info=f"Left empty, {writer} writes it." if optional else None,
                    lines=2, max_lines=8, max_length=5000, visible=model.uses_text,
                )  # fmt: skip
                alone = gradio.Checkbox(
                    label="Speech alone", info="The model reads no text at all.",
                    visible=model.uses_audio and model.uses_text,
                )  # fmt: skip
                button = gradio.Button("Which emotion is it?", variant="primary")
                with gradio.Column(elem_id="examples", visible=bool(examples)):
                    html(app_views.result("examples"))
                    offered = [(gradio.Button(x.title, size="sm"), x) for x in examples]
            with gradio.Column(min_width=300):
                shown = html(nothing, elem_id="answer")
        hidden = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
        asked = button.click(
            functools.partial(app_views.answer, predictor), [audio, text, alone], shown,
            api_visibility="private", concurrency_limit=1, show_progress_on=shown,
        )  # fmt: skip
        # A phone has the answer below the form: it is brought into view, and so is the waiting.
        for event in (button.click, asked.then):
            event(None, js=_SCROLL, api_visibility="private")
        # In the browser, at once: what the server says of it could come after the next answer.
        # An answer on its way is for the recording before.
        audio.change(
            None, None, shown, js=f"() => {json.dumps(nothing)}", api_visibility="private",
            cancels=asked,
        )  # fmt: skip
        audio.change(recordings.forget, [audio, before], before, **hidden)
        for event in (audio.upload, audio.stop_recording, audio.clear):
            event(None, text, text, js=_WITHOUT_EXAMPLE, api_visibility="private")
        for chosen, example in offered:
            words = f"() => {{ window.mmerExample = {json.dumps(example.text)}; }}"
            chosen.click(None, js=words, api_visibility="private")
            chosen.click(
                functools.partial(app_visitors.write, example), None, [audio, text], **hidden
            )
        # While a page is open its recording stays.
        gradio.Timer(60 * KEPT_MINUTES / 4).tick(app_visitors.keep, audio, None, **hidden)
    blocks.queue(api_open=False, max_size=WAITING, default_concurrency_limit=1)
    app_visitors.bound(blocks)
    return blocks


# Of the answer, where less than half of it would be seen.
_SCROLL = """() => {
  const answer = document.getElementById("answer");
  if (answer.getBoundingClientRect().top > innerHeight / 2) answer.scrollIntoView();
}"""


# The text that an example came with is not that of the next recording.
_WITHOUT_EXAMPLE = """(text) => text === window.mmerExample ? "" : text"""


def upload_class(gradio):
    """A `gradio.Audio` that takes uploads alone."""

    class Upload(gradio.Audio):
        """Gradio's own would fetch an address that a visitor sends in a file's place."""

        is_template = True  # the browser's side is that of Audio

        async def async_move_resource_to_block_cache(self, url_or_file_path):
            """The path of an upload."""
            if "://" in str(url_or_file_path or ""):
                raise ValueError("not an upload")
            return await super().async_move_resource_to_block_cache(url_or_file_path)

    return Upload


def serve(name: str, host: str = "127.0.0.1", port: int = 7860, max_mb: float = 25.0,
          transcriber: str = "", language: str = "", examples: str = "") -> None:  # fmt: skip
    """Serves the page until the process is told to stop.

    Args:
      name: of the model, see `checkpoint_io.read`.
      host: address to listen on.
      port: of it.
      max_mb: of an uploaded recording.
      transcriber, language: see `mmer_jax.load`.
      examples: folder or table of recordings to click on; empty: a demo's own.

    Raises:
      UserError: no such model, no Gradio, or the port is taken.
    """
    _check_free(host, port)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="mmer-app-", ignore_cleanup_errors=True)
        )
        os.environ["GRADIO_TEMP_DIR"] = folder
        gradio = _gradio()
        print(f"loading {name} ...", flush=True)
        cli.cache_compilations()
        predictor = mmer_jax.load(name, transcriber=transcriber, language=language)
        # Uploads that break off are there as well; no file of the model's may be, for all that is
        # older than `KEPT_MINUTES` is removed.
        tempfile.tempdir = folder
        stack.callback(setattr, tempfile, "tempdir", None)
        blocks = build(gradio, predictor, _examples(name, predictor.model, examples), max_mb)
        # Before the folder goes, which a late upload would miss.
        stack.callback(blocks.close, verbose=False)
        launch(gradio, blocks, host, port, max_mb)
        print(greeting(host, port), flush=True)
        threading.Event().wait()


def _examples(name, model, chosen):
    from mmer_jax.inference import app_views, examples

    if not model.uses_audio:
        return []
    if chosen:
        return examples.of_files(chosen)
    return examples.of_demo(name, model, app_views.titles(model))


def _check_free(host, port):
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as e:
        raise UserError(
            f"Can't listen on {host}, port {port} ({e.strerror or e}). Expected an address of this "
            "computer and a free port: choose others with --host and --port."
        ) from e


def _gradio():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # It would count all questions ever asked after each of them, for a view that is off.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(sys.maxsize)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Of its own making, and nobody here can do anything about it.
    warnings.filterwarnings("ignore", module=r"gradio\.")
    try:
        import gradio
    except ImportError as e:
        raise UserError(
            f"The page needs Gradio, which can't be imported ({e}). Install it: "
            'pip install "mmer_jax[app]"'
        ) from e
    return gradio


def launch(gradio, blocks, host: str, port: int, max_mb: float) -> None:
    """Serves the page in a thread."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from mmer_jax.inference import app_security, app_visitors
    from mmer_jax.reporting import report

    middleware = [
        Middleware(app_security.secured), Middleware(app_security.bounded, int(max_mb * 2**20)),
    ]  # fmt: skip
    if host in LOOPBACK:
        # Another site's page must not reach it under a name of its own (DNS rebinding).
        names = [*LOOPBACK, "[::1]"]
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=names))
    blocks.launch(
        server_name=host, server_port=port, share=False, inbrowser=False, quiet=True,
        prevent_thread_lock=True, show_error=False, footer_links=[], enable_monitoring=False,
        ssr_mode=False, pwa=False, mcp_server=False, max_file_size=int(max_mb * 2**20),
        state_session_capacity=app_visitors.VISITORS,
        css=report.environment().get_template("app.css.j2").render(), theme=_theme(gradio),
        app_kwargs={"middleware": middleware, "openapi_url": None},
    )  # fmt: skip
    app_visitors.remove_old_while(
        lambda: blocks.is_running, os.environ["GRADIO_TEMP_DIR"], 60 * KEPT_MINUTES
    )


def _theme(gradio):
    """Gradio's own with the system's fonts, for nothing is to be fetched, and more contrast."""
    theme = gradio.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace"]
    )
    return theme.set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_200",
        block_label_text_color="*neutral_700", block_label_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_600",
    )  # fmt: skip


def greeting(host: str, port: int) -> str:
    """The page's address, and a warning where others reach it too."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    name = everywhere.get(host, f"[{host}]" if ":" in host else host)
    text = f"Open http://{name}:{port} in a browser; Ctrl+C ends it."
    if host not in LOOPBACK:
        text += (
            f"\nwarning: listening on {host}, everyone who reaches this computer can use the page; "
            "there is no password. Browsers record only on localhost or over https."
        )
    return text


def _parser():
    parser = cli.Parser(prog="python -m mmer_jax.app", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help=cli.MODEL)
    parser.add_argument("--host", default="127.0.0.1", help="default: this computer alone")
    parser.add_argument("--port", type=cli.between(1, 65535), default=7860, help="default: 7860")
    parser.add_argument(
        "--max-mb", type=cli.between(0.001, 1000, float), default=25.0,
        help="of an uploaded recording; default: 25",
    )  # fmt: skip
    parser.add_argument(
        "--examples", default="", metavar="FOLDER_OR_TABLE",
        help="recordings to click on, for all who reach the page; default: some test utterances of "
        "the demo's model, of others none",
    )  # fmt: skip
    cli.add_transcriber(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # recordings are removed then too

    def work():
        try:
            serve(args.model, args.host, args.port, args.max_mb, args.transcriber, args.language,
                  args.examples)  # fmt: skip
        except KeyboardInterrupt:  # its proper end
            print("\nstopped; uploaded recordings are removed.", file=sys.stderr)

    return cli.attempt(work, "uploaded recordings are removed")


if __name__ == "__main__":
    sys.exit(main())
