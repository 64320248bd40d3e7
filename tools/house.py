"""What stands in this repository: notebooks, modules, their imports and sizes.

`python tools/house.py` prints the measures of the house, `python tools/house.py ROOT` those of another checkout.
The tests of the house rules and the freshness of outputs are built on the functions here.
"""

import ast
import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A module imports only from what stands above it; inside a folder, from smaller numbers.
ORDER = [
    "core",
    "tiles",
    "data",
    "losses",
    "scores",
    "networks",
    "settings",
    "predict",
    "runs",
    "training",
    "train",
    "calibration",
    "calibrate",
    "mapping",
    "infer",
    "reviewing",
    "review",
    "suspects",
    "labels",
    "experiments",
    "report",
]


def notebooks(root: Path = ROOT) -> list[Path]:
    "All notebooks, sorted by path."
    return sorted(path for path in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def modules(root: Path = ROOT) -> list[Path]:
    "All modules that notebooks export: not the packages' `__init__` nor nbdev's index."
    return sorted(path for path in (root / "rts_nb").rglob("*.py") if not path.name.startswith("_"))


def code_cells(path: Path) -> list[str]:
    "The sources of a notebook's code cells."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def module_of(path: Path) -> str | None:
    "The module that a notebook exports, like 'tiles.layout'; None if it exports none."
    for source in code_cells(path):
        found = re.match(r"#\| default_exp (\S+)", source)
        if found:
            return found[1]
    return None


def name_of(module: Path, root: Path = ROOT) -> str:
    "A module's dotted name below the package, like 'tiles.layout'."
    return ".".join(module.relative_to(root / "rts_nb").with_suffix("").parts)


def imported_modules(source: str, importer: str, known: set[str]) -> Iterator[str]:
    """Modules of this package that a source imports: relative or absolute, at the top or inside a function.

    `importer` is the dotted name of the module that the source belongs to, and `known` all modules there are.
    """
    for node in ast.walk(ast.parse(source)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = ["rts_nb", *importer.split(".")][: -node.level]
                base = ".".join([*parents, *base.split(".")]).rstrip(".")
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for target in targets:
            name = target.removeprefix("rts_nb.")
            if target.startswith("rts_nb.") and name in known:
                yield name


def position(module: str, numbers: dict[str, str]) -> tuple[int, str]:
    "Where a module stands: the place of its folder or report, then its notebook's number."
    return ORDER.index(module.split(".")[0]), numbers[module]


def non_blank(source: str) -> int:
    "Lines that are not blank."
    return sum(bool(line.strip()) for line in source.splitlines())


def functions(module: Path) -> Iterator[int]:
    "The length of every function and method of a module, in lines."
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def ends_in_value(source: str) -> bool:
    "Whether a lesson cell ends in something to look at: a value, a table or a figure."
    body = ast.parse(source).body
    if not body or not isinstance(body[-1], ast.Expr):
        return False
    call = body[-1].value
    name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
    return not re.match(r"(test_|print|shutil\.|check_|.*\.cleanup$)", name)


def is_lesson(source: str) -> bool:
    "Whether a code cell is an example: not exported, and more than imports."
    if source.startswith("#|"):
        return False
    return not all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


def measures(root: Path = ROOT) -> dict[str, str]:
    "The figures of the house, by name."
    cells = [source for path in notebooks(root) for source in code_cells(path)]
    lines = [line for source in cells for line in source.splitlines() if line.strip()]
    lengths = sorted(length for module in modules(root) for length in functions(module))
    sizes = sorted(non_blank(module.read_text(encoding="utf-8")) for module in modules(root))
    cell_sizes = [non_blank(source) for source in cells if source.strip()]
    lessons = [source for source in cells if is_lesson(source)]
    wide, wider = (sum(len(line) > limit for line in lines) / len(lines) for limit in (120, 140))
    median, longest = statistics.median(lengths), lengths[-1]
    return {
        "notebooks": str(len(notebooks(root))),
        "code lines over 120 columns": f"{wide:.1%}",
        "code lines over 140 columns": f"{wider:.1%}",
        "longest code line": str(max(map(len, lines))),
        "function length, median / p90 / max": f"{median:.0f} / {lengths[int(0.9 * len(lengths))]} / {longest}",
        "modules": str(len(sizes)),
        "module size, median / max": f"{statistics.median(sizes):.0f} / {sizes[-1]}",
        "cells over 40 lines": str(sum(size > 40 for size in cell_sizes)),
        "cells under 6 lines": f"{sum(size < 6 for size in cell_sizes) / len(cell_sizes):.0%}",
        "lesson cells that end in a value": f"{sum(map(ends_in_value, lessons)) / len(lessons):.0%}",
    }


if __name__ == "__main__":
    for name, value in measures(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT).items():
        print(f"{name:40} {value}")
