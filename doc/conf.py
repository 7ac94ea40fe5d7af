"""Sphinx: ``pip install ".[doc]" && sphinx-build -W doc site``."""

import re
from typing import Any

import skbellman

project = "skbellman"
author = "the skbellman developers"
project_copyright = "the skbellman developers"
version = release = skbellman.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["generated/README*"]
html_theme = "pydata_sphinx_theme"
html_title = "skbellman"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
# Pages without pages below them have nothing to show in the sidebar.
html_sidebars = {
    name: []
    for name in (
        "arithmetic", "architecture", "benchmarks", "changelog", "comparison", "distributed",
        "fields", "guide", "images", "index", "paper", "returns",
    )
}  # fmt: skip
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
default_role = "literal"  # `name` in docstrings is code, as scikit-learn's users write it

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "within_subsection_order": "FileNameSortKey",
}

toc_object_entries_show_parents = "hide"
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says types in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False


def _is_machinery(name: str) -> bool:
    """Say whether a method is scikit-learn's own, which its documentation describes."""
    return name.startswith(("set_", "get_metadata")) or name in (
        "get_params",
        "fit_predict",
        "training",
        "dump_patches",
        "call_super_init",
    )


def _skip(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    return True if _is_machinery(name) else None


def _mend(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Join lines that end in a backslash; n_features_in_ in a shape is no link."""
    text = "\n".join(lines)
    text = re.sub(r"\\\n\s*", "", text)
    lines[:] = re.sub(r"(?<![`\w])n_features_in_(?=[,)])", "``n_features_in_``", text).splitlines()


def _list_decisions(app: Any, name: str, source: list[str]) -> None:
    """Put every page of decisions into the navigation, below their index."""
    if name == "decisions/README":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n[a-z]*\n```\n"


def setup(app: Any) -> None:
    """Leave out methods that every scikit-learn estimator has, and mend what Sphinx misreads."""
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _mend, priority=1)  # before numpydoc
    app.connect("source-read", _list_decisions)
