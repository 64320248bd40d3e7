"""Runs the benches one after the other and writes docs/benchmarks.md: `python bench/report.py [BENCH ...] [--write]`.

Without a name, all of RUNS. A bench that runs again replaces its own part of docs/benchmarks.json, and the others stay,
so that the document can be made over several sessions; each section states its machine and date. --write only writes
docs/benchmarks.md anew from docs/benchmarks.json and bench/causes.yaml. Benches with peers run with the interpreter of
.venv-bench where `make .venv-bench` has made it. The exit status is 1 if a bench failed.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from common import RECORD, processor

from rts_nb.core.files import atomic, write_json

ROOT = Path(__file__).resolve().parent.parent
DOCS, CAUSES = ROOT / "docs", ROOT / "bench/causes.yaml"
PEER_PYTHON, PEERS = ROOT / ".venv-bench/bin/python", ROOT / "bench/peers.txt"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of the processor, that decide about speed


class Run(NamedTuple):
    "A bench: its title, the command below bench/, whether it runs with the peers' environment, what to read beside it."

    title: str
    command: tuple[str, ...]
    has_peers: bool = False
    note: str = ""


PEERS_NOTE = """torchmetrics goes over the pixels once for each threshold, ours once for all of its 229,376 bins, so
that an equal number is out of reach; and ours gives PR-AUC at three ratios from one pass. torchgeo looks a window up in
an index of the ground, merges what it finds there, and keeps files open; ours opens a file by its name and checks it
for ground without data. pycocotools lets a detection take its second choice where the first is taken; ours does not.
Its second row gives it objects that are labelled and encoded already, while ours begins with the masks."""

GROWTH_NOTE = """Slopes are of log values over log sizes by least squares: 1 is linear, 0 constant. What a call costs
whatever the size makes them flatter. Memory is the peak beyond that of the libraries, unless a row says otherwise. The
rows of finishing a map are of the figures in [scale.json](scale.json), measured where that says, on another day."""

RUNS = {
    "data": Run("Reading, augmenting and counting tiles", ("data.py",)),
    "metrics": Run("Scoring", ("metrics.py",)),
    "peers": Run(
        "Other libraries: torchmetrics, torchgeo, pycocotools", ("peers.py",), has_peers=True, note=PEERS_NOTE
    ),
    "train": Run("A training step", ("train.py",)),
    "infer": Run("Inference", ("infer.py",), has_peers=True),
    "calibrate_small": Run("Calibration, small network", ("calibrate.py", "small")),
    "calibrate": Run("Calibration, UNet++ / B5", ("calibrate.py",)),
    "engines": Run("Scheduling on a Ray cluster", ("engines.py",)),
    "growth": Run("Growth", ("growth.py",), note=GROWTH_NOTE),
}

# ---------------------------------------------------------------- the machine


def cpu_facts() -> dict[str, Any]:
    "Model and flags of the processor, and the memory, as Linux lists them."
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in cpu if ":" in line]))
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    flags = fields.get("flags", "").split()
    return dict(
        cpu=processor(),
        flags=[flag for flag in FLAGS if flag in flags],
        memory_gib=round(int(memory) / 2**20, 1),
    )


def machine() -> dict[str, Any]:
    "What the figures depend on."
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return cpu_facts() | dict(
        cores=len(os.sched_getaffinity(0)),
        gpu=gpu,
        torch=importlib.metadata.version("torch"),
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 1),
    )


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    "The commit, with -dirty where tracked files other than this document differ from it."
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.*")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def pinned_peers() -> list[str]:
    "The lines of bench/peers.txt without comments."
    lines = [line.partition("#")[0].strip() for line in PEERS.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


# ---------------------------------------------------------------- running


def run_streaming(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    "Runs a command and passes on what it prints; its exit status and last line."
    last = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


def read_rows(record: Path) -> list[dict]:
    "The rows that a bench recorded."
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def run_bench(name: str) -> dict[str, Any]:
    "The part of the document of one bench, run now."
    run = RUNS[name]
    with_peers = run.has_peers and PEER_PYTHON.exists()
    python = str(PEER_PYTHON) if with_peers else sys.executable
    part = dict(date=str(datetime.date.today()), commit=commit(), machine=machine())
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "rows.jsonl"
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {RECORD: str(record), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        script, *arguments = run.command
        status, last = run_streaming([python, "-W", "ignore", f"bench/{script}", *arguments], environment)
        part |= dict(seconds=round(time.monotonic() - start), rows=read_rows(record))
    if with_peers:
        part["peers"] = pinned_peers()
    if status:
        part["failed"] = last.replace(str(ROOT) + "/", "") or f"exit status {status}"
    return part


# ---------------------------------------------------------------- the page


def status_of(row: dict) -> str:
    "What became of a row."
    if "left_out" in row:
        return "not run"
    met = row.get("met")
    if met is None:
        return "–"
    return "met" if met else "**missed**"


def short(value: float) -> str:
    "A figure to read: three digits, more where it is large."
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def wanted(row: dict) -> str:
    "What was asked for."
    if row.get("limit") is None:
        return "–"
    return f"{'≤' if row['at_most'] else '≥'} {row['limit']}"


def short_ratio(value: float) -> str:
    "Two decimals, of small ratios two digits."
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def ratio_cells(row: dict) -> list[str]:
    "The cells of a row with a ratio, or with a figure of ours alone."
    if "left_out" in row:
        return [row["row"], "", "", row["left_out"], "", status_of(row)]
    ours, n = f"{short(row['ours'])} {row['unit']}", f"n={row['rounds']}"
    spread = f"({short_ratio(row['low'])} … {short_ratio(row['high'])}, {n})" if row["rounds"] > 1 else f"({n})"
    if "peer" not in row:
        return [row["row"], ours, "–", f"{short(row['low'])} … {short(row['high'])}, {n}", "–", "–"]
    peer = f"{short(row['peer'])} {row['unit']}"
    return [row["row"], ours, peer, f"{short_ratio(row['ratio'])} {spread}", wanted(row), status_of(row)]


def slope_cells(row: dict) -> list[str]:
    "The cells of a row with a slope."
    points = ", ".join(f"{short(value)} at {size:,}" for size, value in row["points"])
    return [
        row["row"],
        f"{points} {row['against']} ({row['unit']})",
        f"{row['slope']:z.2f}",
        wanted(row),
        status_of(row),
    ]


def table(heads: list[str], rows: list[list[str]]) -> str:
    "A table of Markdown."
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def machine_line(part: dict) -> str:
    "Where, when and of which commit a part was measured."
    m = part["machine"]
    cpu = f"{m['cpu']}, {m['cores']} cores ({', '.join(m['flags']) or 'no AVX2'}), {m['memory_gib']} GiB"
    software = f"torch {m['torch']}, {m['threads']} threads"
    beside = f"load {m['load']} when it began" if "load" in m else ""
    peers = ", ".join(part.get("peers", []))
    facts = [cpu, m["gpu"] or "no GPU", software, beside, part["date"], f"commit {part['commit']}"]
    facts += [f"{part['seconds']} s", peers]
    return "Measured on " + "; ".join(fact for fact in facts if fact) + "."


def section(name: str, part: dict | None) -> str:
    "The section of a bench."
    title = f"## {RUNS[name].title}\n\n"
    command = f"`python bench/{' '.join(RUNS[name].command)}`"
    if part is None:
        return title + f"Not run: {command}."
    ratios = [ratio_cells(row) for row in part["rows"] if "slope" not in row]
    slopes = [slope_cells(row) for row in part["rows"] if "slope" in row]
    text = [f"{command}. {machine_line(part)}"]
    if RUNS[name].note:
        text.append(RUNS[name].note)
    if ratios:
        text.append(table(["what", "ours", "peer", "ratio (range)", "asked for", ""], ratios))
    if slopes:
        text.append(table(["what", "measured", "slope", "asked for", ""], slopes))
    if "failed" in part:
        text.append(f"**Failed** after {part['seconds']} s; rows that are listed here are complete: `{part['failed']}`")
    return title + "\n\n".join(text)


def summary(document: dict) -> str:
    "How many rows are met, missed, failed and not run."
    rows = [row for part in document.values() for row in part["rows"]]
    found = [status_of(row) for row in rows]
    unrun = [name for name in RUNS if name not in document]
    not_run = found.count("not run") + len(unrun)
    failed = sum("failed" in part for part in document.values())
    counts = f"{found.count('met')} met, {found.count('**missed**')} missed, {failed} failed, {not_run} not run"
    free = f"; {found.count('–')} more have no limit"
    return f"**{counts}**{free}. " + (f"Not run at all: {', '.join(unrun)}." if unrun else "")


def missed_section(document: dict, causes: dict[str, str]) -> str:
    "The missed rows with their causes."
    lines = []
    for part in document.values():
        for row in part["rows"]:
            if row.get("met") is False:
                value = row["slope"] if "slope" in row else row["ratio"]
                cause = causes.get(row["row"], "not profiled yet").strip()
                lines.append(f"- **{row['row']}**: {value:.2f}, asked for {wanted(row)}. Cause: {cause}")
    return "## Missed\n\n" + ("\n".join(lines) or "No row missed what was asked for.")


OPENING = """# Benchmarks

`make bench` runs the scripts of `bench/` one after the other and writes this page; `make bench BENCHES="data growth"`
runs some of them and keeps the rest, so that each section states its own machine and date.

A row compares ours with a plain way of doing the same, or with another library, in one run on one machine: after a
round that does not count, rounds alternate in order, and the figure is the median of the ratios within a round, with
the smallest and the largest in brackets. Rounds are at least five; peaks of memory are measured once (n=1). Where a
limit is an upper one (≤), the ratio is ours / peer; where it is a lower one (≥), it is peer / ours. Other libraries are
installed in an environment of their own (`bench/peers.txt`), which shares torch and numpy with ours. A limit that is
missed stays in the table, and its cause is below.

What has no ratio has a page of its own: cards ([gpu.md](gpu.md)), large maps ([scale.md](scale.md)), tables of a
million tiles ([scale_tables.md](scale_tables.md)), the container ([container.md](container.md)), a newcomer's
path ([newcomer.md](newcomer.md))."""


def page(document: dict, causes: dict[str, str]) -> str:
    "The text of docs/benchmarks.md."
    ordered = {name: document[name] for name in RUNS if name in document}
    parts = [OPENING, summary(ordered), missed_section(ordered, causes)]
    parts += [section(name, ordered.get(name)) for name in RUNS]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def load_document(folder: Path) -> dict:
    "What was measured so far, by bench."
    path = folder / "benchmarks.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_page(folder: Path) -> None:
    "Writes benchmarks.md from benchmarks.json."
    causes = yaml.safe_load(CAUSES.read_text(encoding="utf-8")) or {}
    with atomic(folder / "benchmarks.md") as temporary:
        temporary.write_text(page(load_document(folder), causes), encoding="utf-8")


def keep(folder: Path, name: str, part: dict) -> None:
    "Puts the part of a bench into benchmarks.json in place of its earlier one, and writes the page."
    document = load_document(folder) | {name: part}
    write_json(folder / "benchmarks.json", document)
    write_page(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(RUNS))
    parser.add_argument("--write", action="store_true", help="only write docs/benchmarks.md from docs/benchmarks.json")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of benchmarks.md and benchmarks.json")
    given = parser.parse_args()
    unknown = [name for name in given.benches if name not in RUNS]
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}; expected some of {', '.join(RUNS)}")
    if given.write:
        write_page(given.out)
        return 0
    failed = []
    for name in given.benches or RUNS:
        print(f"\n{name}: {RUNS[name].title}", flush=True)
        part = run_bench(name)
        keep(given.out, name, part)
        if "failed" in part:
            failed.append(name)
    print(f"\nDone: {given.out / 'benchmarks.md'}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
