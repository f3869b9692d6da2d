"""Parts of a self-contained page: text in, HTML out, everything from outside escaped."""

import base64
import dataclasses
import re
import struct
from html import escape

# Nothing may be fetched and no script run, so neither can what slipped in from a transcript.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1f23; --soft: #5a626c;
  --line: #d5dae0; --card: #f5f7f9; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --text: #e6e8eb;
  --soft: #a3abb5; --line: #363c44; --card: #1e2328; --link: #7ab8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { max-width: 46rem; margin: .5rem 0; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .5rem 0; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; padding: 4px; }
figcaption, .caption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .35rem; }
.pictures figcaption { max-width: 29rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th { background: var(--card); }
th, td { white-space: nowrap; }
td.wide { min-width: 13rem; white-space: normal; }
/* Rows of sentences don't fit a telephone: there each becomes a card. */
@media (max-width: 45rem) {
  .cards thead { display: none; }
  .cards, .cards tbody, .cards tr { display: block; }
  .cards tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  .cards td { display: grid; grid-template-columns: 7rem 1fr; border: 0; padding: .1rem 0;
    white-space: normal; }
  .cards td::before { content: attr(data-title); color: var(--soft); } }
.note { background: var(--card); border-left: 4px solid #e69f00; border-radius: 4px;
  padding: .5rem .9rem; margin: 1rem 0; white-space: pre-line; max-width: 46rem; }
details { margin: 1rem 0; } summary { cursor: pointer; }
pre { background: var(--card); padding: .75rem; overflow-x: auto; font-size: .8rem; }
""".strip()


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what is below it.

    Attributes:
      key: of the address within the page: letters and dashes.
      title: plain text.
      body: HTML.
    """

    key: str
    title: str
    body: str


def page(title: str, introduction: str, sections) -> str:
    """A whole document with a list of its sections; it needs no network.

    Args:
      title: plain text.
      introduction: HTML.
      sections: `Section`s.
    """
    links = "".join(f'<a href="#{s.key}">{escape(s.title)}</a>' for s in sections)
    body = "".join(
        f'<section id="{s.key}">\n<h2>{escape(s.title)}</h2>\n{s.body}\n</section>\n'
        for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon: a browser would ask a server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{introduction}\n<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )


def picture(png: bytes, description: str, caption: str = "") -> str:
    """A picture within the page.

    Args:
      png: the file's bytes.
      description: for who can't see it.
      caption: plain text below it.
    """
    width, height = (round(n * 0.64) for n in png_size(png))  # 150 dpi there, 96 here
    source = base64.b64encode(png).decode("ascii")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img src="data:image/png;base64,{source}" alt="{escape(description)}" '
        f'width="{width}" height="{height}">{below}</figure>'
    )


def png_size(png: bytes) -> tuple[int, int]:
    """(width, height) of a PNG file in pixels.

    Raises:
      ValueError: these are no PNG's bytes.
    """
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG file")
    return struct.unpack(">II", png[16:24])


def pictures(found: list[str], caption: str = "") -> str:
    """Several of `picture`, side by side where there is room, with one caption for all."""
    return f'<div class="pictures">{"".join(found)}</div>{small(caption)}'


def small(text: str) -> str:
    """A paragraph in the manner of a caption; nothing for an empty one."""
    return f'<p class="caption">{escape(text)}</p>' if text else ""


def paragraph(text: str) -> str:
    """Plain text; `**bold**` is bold."""
    return f"<p>{_inline(text)}</p>"


def note(text: str) -> str:
    """A box that can't be overlooked; line breaks stay."""
    return f'<div class="note">{escape(text)}</div>'


def table(head, rows, wide=()) -> str:
    """A table that scrolls by itself where it is wider than the page.

    With `wide` columns each row becomes a card where the page is narrow.

    Args:
      head: titles.
      rows: of as many texts.
      wide: titles of columns that hold sentences.
    """
    marks = [
        f' data-title="{escape(title)}"' + (' class="wide"' if title in wide else "")
        for title in head
    ]
    kind = ' class="cards"' if wide else ""
    top = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{escape(str(x))}</td>" for m, x in zip(marks, row)) + "</tr>\n"
        for row in rows
    )
    inner = f"<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody>"
    return f'<div class="scroll"><table{kind}>{inner}</table></div>'


def facts(pairs) -> str:
    """A list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def folded(title: str, text: str) -> str:
    """Preformatted text behind a heading that opens it."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def markdown(text: str) -> str:
    """The Markdown that `report.markdown` writes: headings, tables, paragraphs, bold."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n".join(_block(block) for block in blocks if block.strip())


def _block(block):
    lines = block.splitlines()
    if lines[0].startswith("|"):
        cells = [[c.strip() for c in line.strip().strip("|").split("|")] for line in lines]
        return table(cells[0], cells[2:])
    heading = re.match(r"#+ (.*)", block)
    return f"<h3>{escape(heading[1])}</h3>" if heading else paragraph(" ".join(lines))


def _inline(text):
    # Escaped first: the only tags there can be are the ones made here.
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
