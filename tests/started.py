"""Python programs in processes of their own that begin where their imports end.

Importing the package takes most of the time of a command that says in one line what is wrong. A server that has
imported it forks a process for each command: with its own arguments, folder, environment, output and exit status.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["rts_nb.train", "rts_nb.infer", "rts_nb.calibrate"])


def become(words, folder, environment, outputs, before):
    "Turns this process into `python *words`."
    for stream, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if before:
        before()
    is_module = words[0] == "-m"
    sys.argv = words[1:] if is_module else words
    sys.path[:0] = [os.getcwd() if is_module else os.path.dirname(os.path.abspath(words[0]))]
    try:
        if is_module:
            sys.modules.pop(words[1], None)  # it runs as __main__
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a forked process leaves without them
        sys.stdout.flush()
        sys.stderr.flush()


def run_started(words, cwd=ROOT, env=None, before=None, timeout=None):
    "`python *words`, finished, with its output as text; `before` is called in its process first, and can be pickled."
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place) / name for name in ("stdout", "stderr")]
        for path in outputs:
            path.touch()
        environment = dict(os.environ if env is None else env)
        process = SERVER.Process(target=become, args=(words, str(cwd), environment, outputs, before))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        said = [path.read_text(encoding="utf-8", errors="replace") for path in outputs]
    return subprocess.CompletedProcess(words, process.exitcode, *said)
