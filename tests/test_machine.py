"""Training and inference on a machine whose disk stops working, whose clock is set, or whose MLflow server goes away.

A small library (machine.c) stands between the processes and the system, and makes reads, writes or the clock wrong as
long as a file exists. Each test waits until the work is under way, and then makes that file.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from programs import ROOT, last_line, read_json
from short_training import assert_same, go, start, wait_for
from toy_map import assert_whole_rasters, start_map, unfinished_files

from rts_nb.infer import infer
from rts_nb.mapping.examples import map_digests

COMPILER = shutil.which("cc") or shutil.which("gcc")
DAY = 86_400


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not COMPILER:
        pytest.skip("no C compiler here")
    built = tmp_path_factory.mktemp("library") / "machine.so"
    source = ROOT / "tests" / "machine.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    return built


@pytest.fixture
def wrong(library, tmp_path):
    "The file that makes the machine wrong, and the environment of the processes that see it, by what goes wrong."
    flag = tmp_path / "wrong"

    def environment(**what):
        return os.environ | {"LD_PRELOAD": str(library), "WRONG_WHILE": str(flag)} | what

    return flag, environment


def gone_wrong(process, flag):
    "The exit status of a process on a machine that is wrong from now on, and what it said."
    flag.touch()
    _, said = process.communicate()
    flag.unlink()
    return process.returncode, said


def train_gone_wrong(data, run, flag, environment):
    "Those of a training whose machine goes wrong after its first checkpoint."
    process = start(data, run, env=environment)
    wait_for(run / "checkpoints" / "last.pt", process)
    return gone_wrong(process, flag)


def map_gone_wrong(place, out, flag, environment):
    "Those of a map whose machine goes wrong after its second scene."
    process = start_map(place, out, env=environment)
    while len(list((out / "parts").glob("*.json"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return gone_wrong(process, flag)


LONG = pytest.mark.long


@pytest.mark.parametrize("kind", ["read", pytest.param("write", marks=LONG), pytest.param("sync", marks=LONG)])
def test_training_on_a_disk_that_fails(data, undisturbed, tmp_path, wrong, kind):
    flag, environment = wrong
    run = tmp_path / "run"
    below = data if kind == "read" else run
    status, said = train_gone_wrong(data, run, flag, environment(FAIL=kind, FAIL_BELOW=str(below)))
    assert status == 1, said
    assert "Traceback" not in said, said
    assert last_line(said).startswith("rts_nb.train: "), said
    assert "Input/output error" in last_line(said), said
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)


@pytest.mark.parametrize("kind", [pytest.param("read", marks=LONG), "write"])
def test_mapping_on_a_disk_that_fails(place, whole, tmp_path, wrong, kind):
    flag, environment = wrong
    out = tmp_path / "map"
    below = place / "scenes" if kind == "read" else out
    status, said = map_gone_wrong(place, out, flag, environment(FAIL=kind, FAIL_BELOW=str(below)))
    assert status == 1, said
    assert "Traceback" not in said, said
    assert "Input/output error" in last_line(said), said
    assert_whole_rasters(out)
    infer(place / "model", place / "scenes", out)
    assert map_digests(out) == map_digests(whole)
    assert not unfinished_files(out)


@pytest.mark.long
@pytest.mark.parametrize("days", [-1, 400])
def test_a_clock_that_is_set_costs_nothing(data, undisturbed, tmp_path, wrong, days):
    flag, environment = wrong
    run = tmp_path / "run"
    status, said = train_gone_wrong(data, run, flag, environment(SET_CLOCK=str(days * DAY)))
    assert status == 0, said
    assert_same(undisturbed, run)
    hours = [read_json(folder / "metrics.json")["hours"] for folder in (undisturbed, run)]
    assert 0 < hours[1] < 10 * hours[0], hours


@pytest.mark.long
def test_a_clock_that_is_set_while_a_map_is_made(place, whole, tmp_path, wrong):
    flag, environment = wrong
    out = tmp_path / "map"
    status, said = map_gone_wrong(place, out, flag, environment(SET_CLOCK=str(-DAY)))
    assert status == 0, said
    assert map_digests(out) == map_digests(whole)
    hours = [read_json(folder / "inference_log.json")["hours_in_all"] for folder in (whole, out)]
    assert 0 < hours[1] < 20 * hours[0], hours


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    "An MLflow server: its address, and its process, which leads a group of its own."
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    where = ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *store, *where]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **quiet)
    until = time.monotonic() + 120
    while not answers(address):
        assert process.poll() is None and time.monotonic() < until, "the server did not start"
        time.sleep(0.2)
    yield address, process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.parametrize("dies", ["before", "during"])
def test_training_outlives_its_mlflow_server(data, undisturbed, tmp_path, server, dies):
    address, of_server = server
    run = tmp_path / "run"
    if dies == "before":
        os.killpg(of_server.pid, signal.SIGKILL)
    process = start(data, run, env=os.environ | {"MLFLOW_TRACKING_URI": address})
    wait_for(run / "checkpoints" / "last.pt", process)
    if dies == "during":
        os.killpg(of_server.pid, signal.SIGKILL)
    printed, said = process.communicate()
    assert process.returncode == 0, said
    assert printed.count("warning: MLflow store http") == 1, printed
    assert_same(undisturbed, run)
