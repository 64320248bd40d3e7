"""Kills at random moments, and other faults: what is lost, and whether what is finished is the same.

`make faults MINUTES=40` kills (SIGKILL, all of a process group) jobs on tiny data, at moments drawn between their start
and a tenth beyond their usual end. The same command lets them go on, and is killed again; what is finished is compared
with what an undisturbed job left, byte for byte but for what a clock wrote. Training and inference get MINUTES each,
the other jobs a quarter of it; as many jobs as there are cores go at once. Then the tests of other faults are run.
What is found is written to docs/faults.md.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from common import processor

from rts_nb.core.files import project_root, write_json

ROOT = project_root()
KILLS_BEFORE_AN_END = 3  # of one job at most, or a long one would never be finished
CLOCK = {"seconds", "hours", "training_hours", "planned_hours", "cost_usd", "planned_usd", "resumptions", "cost"}


class Job(NamedTuple):
    "A command that is killed and goes on, and what it leaves."

    name: str
    share: float  # of the minutes
    command: Callable[[Path], list[str]]  # that writes into a folder; the same command goes on
    digests: Callable[[Path], dict[str, str]]  # of what it leaves, without what a clock wrote
    ready: Callable[[Path], None] = lambda out: None  # what is there before it starts


class Outcome(NamedTuple):
    "What a campaign found."

    name: str
    usual_s: float  # of an undisturbed job
    kills: int
    finished: int  # jobs that were killed and went on to their end
    same: int  # of these, those that left the same
    lost_s: float  # computed twice or for nothing, a kill; start-up included
    refused: list[str]  # last lines of jobs that did not go on


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def timeless(value):
    "JSON without what a clock wrote."
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def files_of(folder: Path, *patterns: str) -> dict[str, str]:
    "Digests of files below a folder; of JSON without what a clock wrote."
    found = {}
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(timeless(json.loads(content)), sort_keys=True).encode()
        found[path.relative_to(folder).as_posix()] = digest(content)
    return found


def python(code: str, *arguments: Path) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def run_once(words: list[str], seconds: float | None) -> tuple[str, float, str]:
    "'ended', 'killed' or 'failed', how long it took, and its last line; killed after so many seconds."
    started = time.monotonic()
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, **pipes)
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "killed", time.monotonic() - started, ""
    took, lines = time.monotonic() - started, said.strip().splitlines()
    return ("failed" if process.returncode else "ended"), took, (lines or [""])[-1][:200]


def campaign(job: Job, minutes: float, place: Path, rng: random.Random) -> Outcome:
    "Kills a job again and again, for so many minutes."
    plain = place / "undisturbed"
    job.ready(plain)
    state, usual, said = run_once(job.command(plain), None)
    if state != "ended":
        raise SystemExit(f"{job.name} does not end undisturbed: {said}")
    expected, until = job.digests(plain), time.monotonic() + 60 * minutes
    kills = finished = same = 0
    lost, refused = 0.0, []
    while time.monotonic() < until:
        out = place / f"run-{finished + len(refused)}"
        job.ready(out)
        spent, killed, state = 0.0, 0, "killed"
        while state == "killed":
            limit = rng.uniform(0, 1.1 * usual) if killed < KILLS_BEFORE_AN_END else None
            state, took, said = run_once(job.command(out), limit)
            spent += took
            killed += state == "killed"
        kills += killed
        lost += spent - usual if killed else 0.0
        if state == "failed":
            refused.append(said)
        elif killed:
            finished += 1
            same += job.digests(out) == expected
    return Outcome(job.name, usual, kills, finished, same, lost / max(kills, 1), refused)


def jobs(place: Path) -> list[Job]:
    "The jobs, on data of seconds; what they need is made here."
    tiny = place / "tiny"
    sizes = "tile_size=64, n_regions=6, n_positive=24, n_negative=24, n_scenes=2"
    # What is there is taken for whole, as a run takes its dataset, and a kill after its end refuses nothing.
    unless_there = f"Path(sys.argv[1]).exists() or make_sample(sys.argv[1], {sizes})"
    make = f"import sys; from pathlib import Path; from rts_nb.tiles.sample import make_sample; {unless_there}"
    subprocess.run(python(make, tiny), check=True, cwd=ROOT)
    overrides = f"data.root={tiny} data.source=tiles data.tile_size=64 predict.overlap=32 sampling.batch_size=4"
    overrides += " train.epochs=4 train.val_frequency=2 checkpoints.every=2"
    train = [sys.executable, "-m", "rts_nb.train", "--config", "configs/test.yaml", "--overrides", overrides]
    trained, mapped = place / "trained", place / "mapped"
    calibrate = "import sys; from rts_nb.calibrate import calibrate; calibrate(sys.argv[1])"
    infer = [sys.executable, "-m", "rts_nb.infer", "--model-dir", str(trained), "--scenes", str(tiny / "scenes")]
    review = "import sys; from rts_nb.reviewing.sample import draw_review; draw_review(sys.argv[1], sys.argv[2])"
    subprocess.run([*train, "--run-dir", str(trained)], check=True, cwd=ROOT)
    subprocess.run(python(calibrate, trained), check=True, cwd=ROOT)
    subprocess.run([*infer, "--out-dir", str(mapped)], check=True, cwd=ROOT)

    def copied(out: Path) -> None:
        subprocess.run(["cp", "-r", str(trained), str(out)], check=True)
        for name in ("calibration.json", "calibration_scores.npz", "calibration_objects.npz"):
            (out / name).unlink(missing_ok=True)

    return [
        Job(
            "training",
            1.0,
            lambda out: [*train, "--run-dir", str(out)],
            lambda out: files_of(out, "model.safetensors", "validation_scores.npz", "metrics.json", "validations/*"),
        ),
        Job(
            "inference",
            1.0,
            lambda out: [*infer, "--out-dir", str(out)],
            lambda out: files_of(out, "*.tif", "rts.parquet", "items.parquet"),
        ),
        Job(
            "preparing data",
            0.25,
            lambda out: python(make, out / "rts"),
            lambda out: files_of(out / "rts", "**/*.tif", "*.csv", "splits.yaml", "version.json"),
        ),
        Job(
            "calibration",
            0.25,
            lambda out: python(calibrate, out),
            lambda out: files_of(out, "calibration.json", "calibration_scores.npz", "calibration_objects.npz"),
            copied,
        ),
        Job(
            "drawing a review",
            0.25,
            lambda out: python(review, mapped, out),
            lambda out: files_of(out, "plan.json", "items.gpkg"),
        ),
        Job(
            "experiments",
            0.25,
            lambda out: [
                "env",
                f"RTS_RUNS={out}",
                *(sys.executable, "-m", "rts_nb.experiments.command", "boundary/soft-1px"),
                *("--config", "configs/test.yaml", "--overrides", overrides.replace("epochs=4", "epochs=2")),
            ],
            lambda out: files_of(out, "*/seed-*/model.safetensors", "*/seed-*/validation_scores.npz"),
        ),
    ]


# Faults that are not a kill, and the tests that make them.
SURVIVAL = "tests/test_survival.py::"
OTHER_FAULTS = {
    "SIGTERM, as a spot machine sends it; then no disk": f"{SURVIVAL}test_stopped_by_sigterm_then_without_disk",
    "SIGTERM to papermill": f"{SURVIVAL}test_report_is_stopped_by_sigterm_too",
    "full disk while a map is made": "tests/test_infer.py::test_full_disk_is_one_line_and_loses_nothing",
    "unreadable scenes among good ones": "tests/test_infer.py::test_bad_scenes_are_listed_and_the_rest_is_finished",
    "data that changed under a run": f"{SURVIVAL}test_data_that_changed_are_refused_before_anything_is_written",
    "two processes on one run": f"{SURVIVAL}test_a_start_that_is_refused_leaves_the_finished_run",
    "a Ray worker or its caller is killed": "tests/test_engines.py -k killed",
    "a lost GPU": "tests/test_engines.py::test_lost_gpu_ends_its_worker",
    "a disk that fails: reads, writes or syncs (EIO)": "tests/test_machine.py -k disk",
    "a wall clock that is set, by a day back or 400 on": "tests/test_machine.py -k clock",
    "an MLflow server that dies, before or during": "tests/test_machine.py -k mlflow",
    "damaged tables and images (sixty ways)": "tests/test_faults.py",
    "files of others, broken at random": "tests/test_hostile.py",
}


def run_tests(words: str) -> str:
    "What pytest's last line says of these tests, and the names of those that fail."
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *words.split()]
    with_long_ones = os.environ | dict(RTS_LONG="1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=with_long_ones)
    counts = re.findall(r"\d+ (?:passed|failed|skipped|xfailed|error)", done.stdout.strip().splitlines()[-1])
    failed = re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    return ", ".join([*counts, *failed]) or f"exit status {done.returncode}"


def document(outcomes: list[Outcome], others: dict[str, str], minutes: float, at_once: int) -> str:
    "docs/faults.md."
    machine = f"{processor()}, {os.cpu_count()} cores, {at_once} jobs at once"
    lines = [
        "# Faults",
        "",
        f"`make faults MINUTES={minutes:g}`, {datetime.date.today()}, {machine}.",
        "Written by that command; how it kills and compares stands at the top of `bench/faults.py`.",
        "",
        "| killed | undisturbed, s | kills | went on to the end | left the same | lost a kill, s | did not go on |",
        "|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        refused = "; ".join(sorted(set(o.refused))) or "none"
        cells = (o.name, f"{o.usual_s:.0f}", o.kills, o.finished, o.same, f"{o.lost_s:.1f}", refused)
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    lines += ["", "A loss counts the start of a process, which is most of it on data this small.", ""]
    lines += ["| other faults | tests | outcome |", "|---|---|---|"]
    lines += [f"| {fault} | `{OTHER_FAULTS[fault]}` | {said} |" for fault, said in others.items()]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40, help="of kills, for training and for inference each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", help="jobs by their first word, such as training; no other faults then")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="jobs; each is of one core")
    parser.add_argument("--out", default="docs/faults.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RTS_RUNS": f"{folder}/runs", "RTS_CONFIG": "configs/test.yaml"}
        chosen = [job for job in jobs(Path(folder)) if not given.only or job.name.split()[0] in given.only]

        def kill(job: Job) -> Outcome:
            place = Path(folder) / job.name.replace(" ", "-")
            place.mkdir()
            outcome = campaign(job, given.minutes * job.share, place, random.Random(f"{given.seed}-{job.name}"))
            print(outcome, flush=True)
            return outcome

        with ThreadPoolExecutor(given.at_once) as pool:
            outcomes = list(pool.map(kill, chosen))
    others = {} if given.only else {fault: run_tests(words) for fault, words in OTHER_FAULTS.items()}
    Path(given.out).write_text(document(outcomes, others, given.minutes, given.at_once), encoding="utf-8")
    write_json(Path(given.out).with_suffix(".json"), dict(kills=[o._asdict() for o in outcomes], others=others))
    lost = [o.name for o in outcomes if o.refused or o.same < o.finished]
    return 1 if lost or any("failed" in said or "error" in said for said in others.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
