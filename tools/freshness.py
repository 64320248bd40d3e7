"""Are the outputs in committed notebooks those of the code beside them?

A notebook carries a digest of its code cells and of the modules that it imports, directly or not (metadata key
`rts_nb`). `python tools/freshness.py` lists the notebooks whose outputs are stale, `--execute` executes those, `--all`
every one, on the sample config and in a folder of runs of their own. Reports come first: rooms may need their run.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from house import ROOT, code_cells, imported_modules, module_of, modules, name_of, notebooks

RUNS = "runs/notebooks"  # in the project, so that reports show paths from its root


def essential(source: str) -> str:
    "A source without comments of whole lines and blank lines, which no output depends on."
    lines = [line.rstrip() for line in source.splitlines()]
    return "\n".join(line for line in lines if line.strip() and not re.match(r"\s*#(?!\|)", line))


def closure(names: set[str], imports: dict[str, set[str]]) -> set[str]:
    "The modules that are imported, directly or not."
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports[name]
    return found


def digests(root: Path = ROOT) -> dict[Path, str]:
    "The digest that each notebook should carry: of its code cells and of all modules that it depends on."
    sources = {name_of(path, root): path.read_text(encoding="utf-8") for path in modules(root)}
    known = set(sources)
    imports = {name: set(imported_modules(source, name, known)) for name, source in sources.items()}
    result = {}
    for path in notebooks(root):
        cells, own = code_cells(path), module_of(path) or ""
        code = [cell for cell in cells if not cell.startswith("#| default_exp")]
        direct = {name for cell in code for name in imported_modules(cell, own, known)}
        used = sorted(closure(direct, imports) - {own})
        hashed = hashlib.sha256()
        for source in [*code, *(sources[name] for name in used)]:
            hashed.update(essential(source).encode() + b"\0")
        result[path] = hashed.hexdigest()[:16]
    return result


def carried(path: Path) -> str | None:
    "The digest that a notebook carries; None if it has none."
    return json.loads(path.read_text(encoding="utf-8"))["metadata"].get("rts_nb", {}).get("digest")


def stale(root: Path = ROOT) -> list[Path]:
    "Notebooks with code whose outputs are of other code, reports first."
    expected = digests(root)
    found = [path for path in notebooks(root) if code_cells(path) and carried(path) != expected[path]]
    return sorted(found, key=lambda path: (path.parent != root / "nbs", path))


def execute(path: Path, digest: str) -> None:
    "Executes a notebook from top to bottom and writes it with its outputs and its digest."
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=where).execute()
    notebook.metadata["rts_nb"] = {"digest": digest}
    nbformat.write(notebook, path)
    subprocess.run(["nbdev_clean", "--fname", str(path)], cwd=ROOT, check=True)


def execute_all(paths: list[Path]) -> None:
    """Executes notebooks, each written as soon as it is done; a stale training is begun anew.

    Reports come one after the other, as each needs the one before; then rooms, one on each core. A room that fails
    keeps none of the others.
    """
    expected = digests()
    if any(path.stem == "20_train" for path in paths):
        shutil.rmtree(ROOT / RUNS, ignore_errors=True)
    os.environ |= dict(RTS_RUNS=RUNS, RTS_CONFIG="configs/sample.yaml")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    reports = [path for path in paths if path.parent == ROOT / "nbs"]
    for path in reports:
        print(path.relative_to(ROOT), flush=True)
        execute(path, expected[path])
    rooms = [path for path in paths if path not in reports]
    os.environ["OMP_NUM_THREADS"] = "1"  # threads of neighbours wait for each other
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(execute, path, expected[path]): path for path in rooms}
        for done in as_completed(running):
            print(running[done].relative_to(ROOT), done.exception() or "", flush=True)
    failed = [str(path.relative_to(ROOT)) for done, path in running.items() if done.exception()]
    if failed:
        sys.exit(f"{len(failed)} notebooks failed: {', '.join(failed)}")


if __name__ == "__main__":
    every = [path for path in notebooks() if code_cells(path)]
    reports_first = sorted(every, key=lambda path: (path.parent != ROOT / "nbs", path))
    chosen = reports_first if "--all" in sys.argv else stale()
    if "--execute" in sys.argv or "--all" in sys.argv:
        execute_all(chosen)
    elif chosen:
        names = ", ".join(str(path.relative_to(ROOT)) for path in chosen[:5])
        sys.exit(f"{len(chosen)} notebooks hold outputs of other code, the first: {names}; run make notebooks")
