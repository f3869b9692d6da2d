"""What stands between the page of `mmer_jax.app` and all who reach it: two ASGI middlewares."""

import re
import sys

from mmer_jax.errors import first_line

# A page of Gradio asks for fonts and scripts of other hosts: the browser itself refuses.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# What Gradio serves besides, and this page has no use for: it runs ffmpeg, edits its own code,
# fetches from other hosts, or tells of other visitors.
_CLOSED = re.compile(
    r".*/(process_recording|vibe-\w*|undo-vibe-\w*|proxy=.*|monitoring.*|deep_link)/?"
)
_BODY = 1 << 20  # bytes of a request, without what an upload may have


def secured(app):
    """ASGI middleware that adds `HEADERS` to every response."""

    async def call(scope, receive, send):
        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = message | {"headers": [*message.get("headers", []), *added]}
            await send(message)

        await app(scope, receive, send_with_headers)

    return call


class _TooLarge(Exception):
    """A request's body goes on where it should have ended."""


def bounded(app, upload: int):
    """ASGI middleware that refuses in a sentence what no page sends.

    That is a body beyond all bounds, which Gradio would keep in memory, one that makes Gradio fail
    or that it would send back whole, and requests of what Gradio serves for others.

    Args:
      app: the one behind it.
      upload: bytes of a recording.
    """

    async def call(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        if _CLOSED.fullmatch(scope["path"]):
            return await _answer(send, 404, "This page has nothing there.")
        left, begun = _BODY + upload * scope["path"].endswith("/upload"), []

        async def receive_some():
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        async def send_unless_failed(message):
            # An answer of 422 has the whole request in it.
            if message["type"] == "http.response.start" and message["status"] in (422, 500):
                raise RuntimeError(f"Gradio's answer was {message['status']}")
            begun.append(message)
            await send(message)

        try:
            return await app(scope, receive_some, send_unless_failed)
        except Exception as e:  # whatever Gradio does with what it did not expect
            if begun:
                raise
            if isinstance(e, _TooLarge):
                return await _answer(send, 413, "This request is larger than any of this page.")
            path = re.sub(r"[^\x20-\x7e]", "?", scope["path"][:100])
            print(f"refused a request of {path}: {type(e).__name__}: {first_line(e)}",
                  file=sys.stderr)  # fmt: skip
            return await _answer(send, 400, "This request can't be read: it is damaged.")

    return call


async def _answer(send, status, sentence):
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
