"""A newcomer's path: README's first command in a bare clone, and every page that it leaves, opened in a browser.

`python bench/newcomer.py` clones the project into an empty folder. There, with an empty home, no caches and no variable
of this environment but pip's own, it types what README's section "Two commands" says (not `make test`, which CI runs),
the Python example, and `make html` of a report. Every page of the run is opened in headless Chromium, and what its
script complains of or asks the network for is listed. It writes docs/newcomer.md and a picture of each page beside it.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from browser import CHROMIUM, opened  # noqa: E402

WIDTH, HEIGHT = 1280, 900  # of the window, CSS pixels
PASSED_ON = ("PATH", "LANG", "PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL")  # how packages are found here


class Typed(NamedTuple):
    "A command of the README and what came of it."

    command: str
    seconds: float
    status: int
    last_line: str


class Opened(NamedTuple):
    "A page and what the browser had to say of it."

    path: str  # below the run
    title: str
    kib: float
    faults: list[str]
    picture: str  # file name


def code_block(language: str, heading: str = "") -> list[str]:
    "The lines of README's first block of a language, or of the first one below a heading, without their comments."
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    below = text.split(f"\n## {heading}\n")[1] if heading else text
    block = below.split(f"```{language}\n")[1].split("\n```")[0]
    return [line.split("#")[0].rstrip() for line in block.splitlines()]


def bare_environment(home: Path) -> dict[str, str]:
    "The variables of somebody who has just logged in; pip's settings stay, since they say where packages come from."
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own = str(Path(sys.prefix) / "bin")
    kept["PATH"] = os.pathsep.join(place for place in kept["PATH"].split(os.pathsep) if place != own)
    settings = Path.home() / ".config" / "pip" / "pip.conf"
    if settings.exists():
        kept["PIP_CONFIG_FILE"] = str(settings)
    return kept | dict(HOME=str(home), PIP_NO_CACHE_DIR="1")


def type_in(folder: Path, command: str, environment: dict[str, str]) -> Typed:
    "A command, as typed in a folder."
    began = time.monotonic()
    how = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, check=False, **how)
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("WARNING")]
    print(f"{command}: {time.monotonic() - began:.0f} s, status {done.returncode}", flush=True)
    if done.returncode:
        print(*lines[-20:], sep="\n")
    return Typed(command, time.monotonic() - began, done.returncode, lines[-1] if lines else "")


def python_example() -> str:
    "README's Python example on a scene of the sample, as a command."
    pixels = "import rasterio; pixels = rasterio.open('data/field-2/scenes/scene_0.tif').read()"
    shown = "print('logits', logits.dtype, logits.shape)"
    return "\n".join([".venv/bin/python - <<'END'", pixels, *code_block("python"), shown, "END"])


def type_commands(clone: Path, environment: dict[str, str]) -> list[Typed]:
    "What is typed, in order; it ends at the first that fails."
    first = code_block("bash", "Two commands")
    commands = ["make env", *(command for command in first if command != "make test"), python_example()]
    commands += ["make html NOTEBOOK=runs/sample/seed-42/notebooks/20_train.ipynb"]
    typed = []
    for command in commands:
        typed.append(type_in(clone, command, environment))
        if typed[-1].status:
            break
    return typed


def look_at(run: Path, pictures: Path) -> list[Opened]:
    "Every page below a run, opened; a picture of each."
    found = []
    for path in sorted(run.rglob("*.html")):
        name = path.relative_to(run).as_posix()
        picture = f"{re.sub('[^a-z0-9]+', '_', name.removesuffix('.html').lower())}.jpg"
        with opened(path, WIDTH, HEIGHT) as page:
            page.wait_for_timeout(1500)
            page.screenshot(path=pictures / picture, type="jpeg", quality=60)
            found.append(Opened(name, page.title(), path.stat().st_size / 1024, list(page.faults), picture))
        print(f"{name}: {page.faults or 'no fault'}", flush=True)
    return found


def report_seconds(run: Path) -> dict[str, float]:
    "How long papermill executed each report of a run."
    notebooks = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in run.rglob("*.ipynb")}
    return {name: notebook["metadata"]["papermill"]["duration"] for name, notebook in sorted(notebooks.items())}


def table(names: list[str], rows: list[list]) -> list[str]:
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return lines + [f"| {' | '.join(str(value).replace('|', '/') for value in row)} |" for row in rows]


def write_page(typed: list[Typed], pages: list[Opened], reports: dict[str, float], out: Path) -> None:
    "Writes docs/newcomer.md."
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    machine += f", load of the last quarter of an hour {os.getloadavg()[2]:.1f}"
    lines = [
        "# The newcomer's path",
        "",
        f"`python bench/newcomer.py`, {datetime.date.today()}, {machine}. A bare clone, an empty home and no caches; "
        "what README says is typed as it stands there, and every page that it leaves is opened in headless Chromium "
        "with the network refused.",
        "",
    ]
    said = [[f"`{row.command.splitlines()[0]}`", f"{row.seconds:.0f} s", row.status, row.last_line] for row in typed]
    lines += table(["typed", "took", "exit status", "last line"], said)
    lines += ["", "Of `make demo`, the reports:", ""]
    lines += table(["report", "took"], [[name, f"{seconds:.0f} s"] for name, seconds in reports.items()])
    lines += ["", "The pages, as they open:", ""]
    shown = [[f"`{page.path}`", page.title, f"{page.kib:,.0f} KiB", "; ".join(page.faults) or "none"] for page in pages]
    lines += table(["page", "title", "size", "faults"], shown)
    for page in pages:
        lines += ["", f"![{page.title}]({out.stem}/{page.picture})"]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="a folder for the clone, which stays; else it is removed")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("there is no Chromium on this machine: apt-get install chromium")
    out = ROOT / "docs" / "newcomer.md"
    pictures = out.with_suffix("")
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        clone, home = arguments.keep or Path(folder) / "rts_nb", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        typed = type_commands(clone, bare_environment(home))
        run = clone / "runs" / "sample" / "seed-42"
        pages = look_at(run, pictures)
        write_page(typed, pages, report_seconds(run), out)
    return max(row.status for row in typed) or int(any(page.faults for page in pages))


if __name__ == "__main__":
    raise SystemExit(main())
