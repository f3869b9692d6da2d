"""How Sphinx builds these pages: `make docs`, warnings are errors."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# As the commands do: the pages need no import of tensorflow and no accelerator.
os.environ.setdefault("USE_TF", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "MMER in JAX"
author = "The MMER in JAX authors"
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "options",
    "modules",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_title = project
html_show_sphinx = False

myst_heading_anchors = 3  # so that links to headings are checked

# A docstring's `name` is code, not a title to be looked up.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
