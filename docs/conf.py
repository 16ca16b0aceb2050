"""Site of the documentation: `make docs` builds it into build/site, and fails on any warning.

The pages are plain Markdown that also reads well where the repository is shown: MyST reads them as they are, Furo lays
them out. Fonts are the reader's own and scripts lie in the site, so nothing is fetched when a page is opened, and
the search works on files too. What only the site needs, its navigation, is below and not in the pages.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "QGFace plugin"
version = re.findall(r'^__version__ = "(.+)"$', (ROOT / "qgface_plugin" / "__init__.py").read_text("utf-8"), re.M)[0]
release = version
author = "the QGFace plugin's contributors"
copyright = author

# The source folder is the project's, so that README.md, CONTRIBUTING.md and links to them are part of the site.
root_doc = "docs/index"
include_patterns = ["docs/*.md", "*.md"]
exclude_patterns = [".*", "build", "dist", "tests", "work_dirs", "qgface_plugin", "recipes", "tools", "*.egg-info"]
extensions = ["myst_parser"]
myst_heading_anchors = 4

NAVIGATION = {
    "Start": [
        "docs/quickstart",
        "docs/install",
        "docs/training",
        "docs/arcface_torch",
        "docs/troubleshooting",
        "docs/glossary",
    ],
    "Data": ["docs/packing", "docs/bad_input", "docs/fuzzing"],
    "Training": [
        "docs/guide",
        "docs/finetuning",
        "docs/importing",
        "docs/own_parts",
        "docs/own_loop",
        "docs/checkpoints",
        "docs/tracking",
        "docs/ranks",
        "docs/performance",
        "docs/benchmarks",
    ],
    "Measuring": [
        "docs/evaluation",
        "docs/evaluation_identification",
        "docs/evaluation_ijb",
        "docs/evaluation_quality",
        "docs/embedding",
        "docs/export",
    ],
    "The paper": ["docs/method", "docs/experiments", "docs/results"],
    "Reference": ["docs/commands", "docs/configuration", "docs/api", "docs/architecture"],
    "The project": ["README", "CONTRIBUTING", "CHANGELOG", "docs/licences"],
}


def _add_navigation(app, docname: str, source: list[str]) -> None:
    """Append the table of contents to the first page as it is read."""
    if docname == root_doc:
        for caption, pages in NAVIGATION.items():
            names = "\n".join(f"README </{page}>" if page == "README" else f"/{page}" for page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"


def setup(app) -> dict[str, bool]:
    app.connect("source-read", _add_navigation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


html_theme = "furo"
html_title = f"QGFace plugin {version}"
html_static_path = ["site_files"]
html_css_files = ["site.css"]
html_extra_path = ["site_files/index.html"]  # at the top of the site: leads to docs/index.html
html_show_sourcelink = html_copy_source = html_show_sphinx = html_show_copyright = False
html_use_index = False
html_last_updated_fmt = None
