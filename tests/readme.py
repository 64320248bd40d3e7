"""README.md from nbs/index.ipynb: `python tests/readme.py` says whether it is in step, `--write` makes it so.

By nbconvert, since nbdev's own way needs quarto. Pictures of the index lie in nbs/images/.
"""

import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent


def readme() -> str:
    "The text of README.md."
    notebook = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    notebook.cells = [c for c in notebook.cells if c.cell_type == "markdown"]
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    note = "<!-- Made from nbs/index.ipynb by `make readme`; edit that. -->\n"
    return note + text.replace("](images/", "](nbs/images/").strip() + "\n"


if __name__ == "__main__":
    file = ROOT / "README.md"
    if "--write" in sys.argv:
        file.write_text(readme())
    elif file.read_text() != readme():
        sys.exit("README.md is not what nbs/index.ipynb gives; run make readme")
