"""What stands before the page's server: nothing else is fetched, and some doors are shut."""

# The browser itself refuses whatever else a page of Gradio might want to fetch.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}
# Of Gradio's routes: descriptions of an API, statistics, and states written to the disk.
CLOSED = ("info", "openapi.json", "monitoring", "deep_link", "dev", "docs", "redoc")


class Guard:
    """An ASGI application in front of Gradio's: adds `HEADERS`, answers 404 for `CLOSED`."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif is_closed(scope["path"]):
            await _not_found(send)
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope, receive, send):
        began = False

        async def guarded(message):
            nonlocal began
            began = True
            if message["type"] == "http.response.start":
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = message | {"headers": [*message.get("headers", []), *added]}
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except (RuntimeError, FileNotFoundError):
            # An upload that was removed while the browser asked for it.
            if began or not scope["path"].startswith("/gradio_api/file="):
                raise
            await _not_found(send)


async def _not_found(send):
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def is_closed(path: str) -> bool:
    """Whether an address of the server is one that nobody is to reach."""
    first = path.removeprefix("/gradio_api").strip("/").split("/")[0]
    return first in CLOSED or first.startswith("proxy=")
