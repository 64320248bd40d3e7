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
from toy_map import assert_whole_rasters, make_place, start_map, unfinished_files

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


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    return run


def broken_off(data, run, flag, environment):
    "What a training says that the machine stops after its first checkpoint."
    process = start(data, run, env=environment)
    wait_for(run / "checkpoints" / "last.pt", process)
    flag.touch()
    _, said = process.communicate()
    flag.unlink()
    assert process.returncode == 1, said
    assert last_line(said).startswith("rts_nb.train: "), said
    assert "Traceback" not in said, said
    return last_line(said)


LONG = pytest.mark.long


@pytest.mark.parametrize("kind", ["read", pytest.param("write", marks=LONG), pytest.param("sync", marks=LONG)])
def test_training_on_a_disk_that_fails(data, undisturbed, tmp_path, wrong, kind):
    flag, environment = wrong
    run = tmp_path / "run"
    below = data if kind == "read" else run
    said = broken_off(data, run, flag, environment(FAIL=kind, FAIL_BELOW=str(below)))
    assert "Input/output error" in said, said
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)


def wait_for_scenes(out, process, n):
    "Waits until a running map has finished so many scenes."
    while len(list((out / "parts").glob("*.json"))) < n:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), rows=[1] * 6, slumps=6)


@pytest.fixture(scope="module")
def whole(place):
    "The map of an undisturbed run."
    infer(place / "model", place / "scenes", place / "whole")
    return place / "whole"


@pytest.mark.parametrize("kind", [pytest.param("read", marks=LONG), "write"])
def test_mapping_on_a_disk_that_fails(place, whole, tmp_path, wrong, kind):
    flag, environment = wrong
    out = tmp_path / "map"
    below = place / "scenes" if kind == "read" else out
    run = start_map(place, out, env=environment(FAIL=kind, FAIL_BELOW=str(below)))
    wait_for_scenes(out, run, 2)
    flag.touch()
    _, said = run.communicate()
    flag.unlink()
    assert run.returncode == 1, said
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
    process = start(data, run, env=environment(SET_CLOCK=str(days * DAY)))
    wait_for(run / "checkpoints" / "last.pt", process)
    flag.touch()
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert_same(undisturbed, run)
    hours = [read_json(folder / "metrics.json")["hours"] for folder in (undisturbed, run)]
    assert 0 < hours[1] < 10 * hours[0], hours


@pytest.mark.long
def test_a_clock_that_is_set_while_a_map_is_made(place, whole, tmp_path, wrong):
    flag, environment = wrong
    out = tmp_path / "map"
    run = start_map(place, out, env=environment(SET_CLOCK=str(-DAY)))
    wait_for_scenes(out, run, 2)
    flag.touch()
    _, said = run.communicate()
    assert run.returncode == 0, said
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
    address = f"127.0.0.1:{free_port()}"
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    host, port = address.split(":")
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", host, "--port", port, "--workers", "1"]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **quiet)
    until = time.monotonic() + 120
    while not answers(address):
        assert process.poll() is None and time.monotonic() < until, "the server did not start"
        time.sleep(0.2)
    yield f"http://{address}", process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(address):
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=5):
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
