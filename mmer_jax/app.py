"""A page in the browser that hears emotions: `python -m mmer_jax.app MODEL`."""

import functools
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings

from absl import flags

from mmer_jax import cli
from mmer_jax.errors import UserError

KEPT_MINUTES = 10.0  # what was uploaded and never asked about
WAITING = 16  # questions in the queue, and recordings kept in memory
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build(gradio, answers):
    """The page, not yet served.

    Args:
      gradio: the module.
      answers: `page.Answers`.

    Returns:
      Gradio's `Blocks`.
    """
    from mmer_jax.inference import page, uploads

    model = answers.model
    seconds = round(60 * KEPT_MINUTES)
    with gradio.Blocks(
        title="Emotion in speech", analytics_enabled=False, delete_cache=(60, seconds)
    ) as blocks:
        html = functools.partial(gradio.HTML, apply_default_css=False, padding=True)
        html(page.introduction(model))
        key = gradio.State(None)
        with gradio.Row():
            with gradio.Column(min_width=300):
                inputs = _form(gradio, model)
                button = gradio.Button("Which emotion is it?", variant="primary")
                if model.uses_audio:
                    html(page.privacy(KEPT_MINUTES))
            with gradio.Column(min_width=300):
                shown = html(page.result(page.NOTHING_YET), elem_id="answer")
        memory = uploads.Memory(seconds, WAITING)
        button.click(
            functools.partial(answered, answers, memory),
            [*inputs, key], [shown, inputs[0], key],
            api_visibility="private", concurrency_limit=1, show_progress_on=shown,
            scroll_to_output=True,
        )  # fmt: skip
    return blocks.queue(api_open=False, max_size=WAITING, default_concurrency_limit=1)


def _form(gradio, model):
    """Recording, text, and whether speech alone counts; what the model can't use is hidden."""
    hears, reads = model.uses_audio, model.uses_text
    audio = _upload(gradio)(
        sources=["upload", "microphone"], type="filepath", label="Recording", editable=False,
        buttons=[], visible=hears, elem_id="recording",
    )  # fmt: skip
    optional = not model.lacks_ctc
    text = gradio.Textbox(
        label="What is said (optional)" if optional else "What is said",
        info="Left empty, the model writes it itself." if optional else None,
        lines=2, max_lines=8, max_length=5000, visible=reads,
    )  # fmt: skip
    alone = gradio.Checkbox(
        label="Speech alone", info="The model reads no text at all.", visible=hears and reads
    )
    return [audio, text, alone]


def _upload(gradio):
    class Upload(gradio.Audio):
        """Takes uploads alone: Gradio's own would also fetch an address that it is sent."""

        is_template = True  # the browser's side is that of Audio

        async def async_move_resource_to_block_cache(self, url_or_file_path):
            """The path of an upload."""
            if "://" in str(url_or_file_path or ""):
                raise ValueError("not an upload")
            return await super().async_move_resource_to_block_cache(url_or_file_path)

    return Upload


def answered(answers, memory, path, text, alone, key):
    """What the page shows next.

    Args:
      answers: `page.Answers`.
      memory: `uploads.Memory`.
      path: of a new recording, or None.
      text: as typed.
      alone: whether speech alone was asked for.
      key: in the memory, of the recording that this visitor asked about before, or None.

    Returns:
      HTML; None, as the file of the recording is gone; the new key.
    """
    from mmer_jax.inference import page, uploads

    recording = None
    try:
        if answers.model.uses_audio:
            recording = uploads.take(path, memory.pop(key))
        shown = answers(recording, page.asked_text(answers.model, text, alone))
    except UserError as e:
        shown = page.failure(str(e))
    except Exception as e:  # for the terminal, where someone can make something of it
        sys.excepthook(type(e), e, e.__traceback__)
        shown = page.failure("Something went wrong here; the terminal of this program says what.")
    return shown, None, memory.keep(recording)


def serve(name: str, host: str = "127.0.0.1", port: int = 7860, max_mb: float = 25.0) -> None:
    """Serves the page until the process is told to stop.

    Args:
      name: of the model, see `loading.read`.
      host: address to listen on.
      port: of it.
      max_mb: of an uploaded recording.

    Raises:
      UserError: no such model, no Gradio, or the port is taken.
    """
    _check_free(host, port)
    folder, before = tempfile.mkdtemp(prefix="mmer-app-"), tempfile.tempdir
    # Finished uploads, and those that break off.
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = folder
    blocks = None
    try:
        gradio = _gradio()
        _say(f"loading {name} ...")
        blocks = build(gradio, _answers(name))
        _launch(gradio, blocks, host, port, max_mb)
        _say(greeting(host, port))
        threading.Event().wait()
    finally:
        try:
            if blocks is not None:
                blocks.close(verbose=False)
        finally:  # also when it is told to stop once more
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)


def _check_free(host, port):
    try:
        family, kind, _, _, at = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(at)
    except OSError as e:
        raise UserError(
            f"Can't listen on {host}, port {port} ({e.strerror or e}). Expected an address of this "
            "computer and a free port: choose others with --host and --port."
        ) from e


def _gradio():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Of its own making, and nobody here can do anything about it.
    warnings.filterwarnings("ignore", module=r"gradio\.")
    try:
        import gradio
    except ImportError as e:
        raise UserError(
            f"The page needs Gradio, which can't be imported ({e}). Install it: "
            'pip install -c constraints.txt -e ".[app]"'
        ) from e
    return gradio


def _answers(name):
    # Imported late: a wrong option is reported at once, without seconds of imports.
    from mmer_jax.inference import loading, page

    cli.cache_compilations()
    return page.Answers(loading.load(name))


def _launch(gradio, blocks, host, port, max_mb):
    from mmer_jax.inference import page

    blocks.launch(
        server_name=host, server_port=port, share=False, inbrowser=False, quiet=True,
        prevent_thread_lock=True, show_error=False, footer_links=[], enable_monitoring=False,
        ssr_mode=False, pwa=False, mcp_server=False, max_file_size=int(max_mb * 2**20),
        css=page.STYLE, theme=_theme(gradio),
        app_kwargs={"middleware": _middleware(host), "openapi_url": None},
    )  # fmt: skip


def _theme(gradio):
    """Gradio's own with fonts of the system, for nothing is to be fetched, and more contrast."""
    theme = gradio.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace"]
    )
    return theme.set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_200",
        block_label_text_color="*neutral_700", block_label_text_color_dark="*neutral_200",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )  # fmt: skip


def _middleware(host):
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from mmer_jax.inference.guard import Guard

    found = [Middleware(Guard)]
    if host in LOOPBACK:
        # Another site's page must not reach it under a name of its own.
        names = [*LOOPBACK, "[::1]"]
        found.append(Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False))
    return found


def greeting(host: str, port: int) -> str:
    """Where the page is, and a warning where others reach it too."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    name = everywhere.get(host, f"[{host}]" if ":" in host else host)
    text = f"Open http://{name}:{port} in a browser; Ctrl+C ends it."
    if host not in LOOPBACK:
        text += (
            f"\nwarning: listening on {host}, everyone who reaches this computer can use the page; "
            "there is no password. Browsers record only on localhost or over https."
        )
    return text


def _say(text):
    print(text, flush=True)


def _parser():
    parser = cli.Parser(prog="python -m mmer_jax.app", description=__doc__)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=cli.MODEL,
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: this computer alone")
    parser.add_argument("--port", type=_port, default=7860, help="default: 7860")
    parser.add_argument(
        "--max-mb", type=_size, default=25.0, help="of an uploaded recording; default: 25"
    )
    return parser


def _port(text):
    if not 1 <= int(text) <= 65535:
        raise ValueError
    return int(text)


def _size(text):
    if not 0 < float(text) <= 1000:
        raise ValueError
    return float(text)


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    args = _parser().parse_args(argv)
    flags.FLAGS.mark_as_parsed()  # grain reads absl's flags, which this command does not use
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # recordings are removed then too

    def work():
        try:
            serve(args.model, args.host, args.port, args.max_mb)
        except KeyboardInterrupt:  # its proper end
            print("\nstopped; uploaded recordings are removed.", file=sys.stderr)

    return cli.attempt(work, "uploaded recordings are removed")


if __name__ == "__main__":
    sys.exit(main())
