"""The book: guides, walks, gallery and reference, built by ``python -m sphinx -W notebooks build/book``.

Nothing is loaded from a network, neither while it is built nor when a page is opened from disk: formulas become MathML,
and each walk holds the scripts of its figures (3 MB).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the extensions of the book, and lcakit as it is in this repository
os.environ |= {"PANEL_INLINE": "true", "BOKEH_RESOURCES": "inline", "PYTHONPATH": str(HERE.parent)}  # kernels too

from lcakit import __version__  # noqa: E402

project = "lcakit"
author = "the lcakit authors"
copyright = "the lcakit authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "_book.mathml",
    "_book.names",
    "_book.reference",
    "_book.pictures",
]
exclude_patterns = ["README.md", "_book", "gallery/*.py", "**.ipynb_checkpoints"]
html_math_renderer = "mathml"

# ---- text ------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# ---- walks -----------------------------------------------------------------------------------------------------

nb_execution_mode = "cache"  # run those that changed; `-D nb_execution_mode=off` builds without their pictures
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_render_markdown_format = "myst"  # tables among the results
nb_ipywidgets_js = {}
suppress_warnings = ["mystnb.unknown_mime_type"]  # what HoloViews tells JupyterLab besides

# ---- reference -------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what arguments are
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

# ---- pages -----------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"lcakit {__version__}"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_sidebars = {page: [] for page in ("index", "paper", "speed", "changelog", "contributing")}
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_end": ["theme-switcher"],
}
