"""The page's parts: what comes from data stays text."""

import base64
import html.parser

import numpy as np
import pytest

from mmer_jax.reporting import plots, report
from tests.harness import png_size

BAD = '<script>alert("x")</script><img src=http://x.test/y onerror=z> & "quoted" **bold**'


class Tags(html.parser.HTMLParser):
    """Collects tags, with their attributes, and text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def macro(name, *args):
    """The HTML of a macro of parts.html.j2."""
    return str(getattr(report.environment().get_template("parts.html.j2").module, name)(*args))


def names(page):
    return {tag for tag, _ in Tags(page).tags}


@pytest.mark.parametrize(
    "made",
    [
        macro("note", BAD), macro("small", BAD), macro("emotion", BAD, "#fff", 0.5),
        macro("player", BAD, BAD, BAD), macro("bars", [(BAD, 0.5, "", [BAD])], BAD, [BAD]),
        macro("table", [BAD], [[BAD]], [BAD]),
        report.environment().from_string("{{ x | markdown }}").render(x=f"# {BAD}\n\n{BAD}"),
        report.environment().from_string("{{ x | markdown }}").render(x=f"| {BAD} |\n|-|\n| 1 |"),
    ],
)  # fmt: skip
def test_what_comes_from_data_is_escaped(made):
    assert not names(made) & {"script", "img", "a"}
    assert '<script>alert("x")</script>' in Tags(made).text


def test_a_picture_escapes_its_words_and_keeps_its_bytes():
    picture = plots.image(plots.confusion(np.array([[3, 1], [0, 2]]), ["a", "b"]))
    tags = Tags(macro("picture", picture, BAD, BAD)).tags
    (image,) = (a for tag, a in tags if tag == "img")
    assert image["alt"] == BAD
    assert image["src"].startswith("data:image/png;base64,")
    assert base64.b64decode(image["src"].partition(",")[2]) == picture["png"]
    assert int(image["width"]) == round(png_size(picture["png"])[0] * 0.64)  # 150 dpi, 96 here
    assert not {tag for tag, _ in tags} & {"script"}


def test_markdown_tables_become_tables():
    template = report.environment().from_string("{{ x | markdown }}")
    made = template.render(
        x="# Name\n\n| a | b |\n|-|-|\n| 1 |  |\n| 2 | x |\n\nSome **bold**\ntext <b>."
    )
    assert "<h1>Name</h1>" in made
    assert made.count("<tr>") == 3 and made.count("<td") == 4
    assert "<strong>bold</strong>" in made and "&lt;b&gt;" in made
    again = template.render(x="![x](http://x.test) [y](http://x.test) <http://x.test>")
    assert names(again) == {"p"}
