"""What tests run as users do, from the root of the project, and what it left: reports, JSON files, MLflow runs."""

import json
import os
import subprocess
from pathlib import Path

from started import run_started

ROOT = Path(__file__).resolve().parent.parent


def run_program(*command, env=None):
    "A finished program with its output as text; `env` are further environment variables."
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ | (env or {}))


def run_python(*arguments, env=None, cwd=ROOT, before=None):
    "`python *arguments`, finished, in a process that has the package imported (started.py) and finds it in the root."
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return run_started([str(word) for word in arguments], cwd, environment, before)


def papermill_command(notebook, out, **parameters):
    "The command that executes a report notebook with these parameters."
    command = ["papermill", f"nbs/{notebook}.ipynb", str(out)]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    return command


def papermill(notebook, out, env=None, **parameters):
    "A finished papermill run of a report notebook."
    return run_program(*papermill_command(notebook, out, **parameters), env=env)


def last_line(text):
    "The last line of what a program said."
    return text.strip().splitlines()[-1]


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cells_of(report):
    "The cells of an executed notebook."
    return read_json(report)["cells"]


def outputs_of(cells):
    "The outputs of cells, as text to search in."
    return json.dumps([cell.get("outputs", []) for cell in cells])


def count_figures(outputs):
    "How many figures outputs have, line plots (PNG) and image panels (JPEG)."
    return outputs.count("image/png") + outputs.count("image/jpeg")


def tracked_run(run_dir):
    "(client, id) of a run directory's MLflow run."
    from mlflow import MlflowClient

    store = f"sqlite:///{os.environ['RTS_RUNS']}/mlflow.db"
    return MlflowClient(store), read_json(run_dir / "mlflow.json")["run_id"]
