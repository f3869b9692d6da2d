"""HTML from the templates beside this file; everything from outside is escaped."""

import base64
import functools
import struct

import jinja2
import markdown_it
import markupsafe


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, with a filter `markdown` for headings, tables and bold text."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("mmer_jax.reporting"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True,
    )  # fmt: skip
    # Nothing else is enabled: no HTML, no links, no images.
    parser = markdown_it.MarkdownIt("zero").enable(["heading", "table", "emphasis"])
    env.filters["markdown"] = lambda text: markupsafe.Markup(parser.render(text))
    return env


def image(png: bytes) -> dict:
    """A PNG file as `src`, a data URI, `width` and `height` in CSS pixels.

    Raises:
      ValueError: not the bytes of a PNG file.
    """
    width, height = (round(n * 0.64) for n in png_size(png))  # 150 dpi there, 96 here
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return {"src": source, "width": width, "height": height}


def png_size(png: bytes) -> tuple[int, int]:
    """(width, height) of a PNG file in pixels.

    Raises:
      ValueError: not the bytes of a PNG file.
    """
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG file")
    return struct.unpack(">II", png[16:24])
