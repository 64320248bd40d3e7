"""README.md from nbs/index.ipynb: `python tools/readme.py` says whether it is in step, `--write` makes it so.

By nbconvert, since nbdev's own way needs quarto. Links of the index are from nbs/, those of README.md from the root.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent


def from_root(match: re.Match) -> str:
    "A link of the index as README.md needs it: from the root instead of nbs/."
    target = match[1]
    if target.startswith("../"):
        return f"]({target[3:]})"
    return f"](nbs/{target})"


def readme() -> str:
    "The text of README.md."
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    note = "<!-- Made from nbs/index.ipynb by `make readme`; edit that. -->\n"
    return note + re.sub(r"\]\((?!https?:|#)([^)\s]+)\)", from_root, text).strip() + "\n"


if __name__ == "__main__":
    file = ROOT / "README.md"
    if "--write" in sys.argv:
        file.write_text(readme(), encoding="utf-8")
    elif file.read_text(encoding="utf-8") != readme():
        sys.exit("README.md is not what nbs/index.ipynb gives; run make readme")
