"""Setting up: the Python that is needed, the kernel that runs, paths typed in another folder than the project's."""

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from jupyter_core import paths
from packaging.specifiers import SpecifierSet
from programs import ROOT, last_line, run_python

FAKE_PYTHON = """#!{python}
import sys
sys.version_info, sys.version, sys.base_prefix = {version}, {text!r}, {prefix!r}
if sys.argv[1] == "-m":
    sys.exit("asked for " + sys.argv[2])
exec(sys.argv[2])
"""


def fake_python(folder, *version):
    "An interpreter that says it is of this version, and makes no environment."
    program = folder / "bin" / f"python{version[0]}.{version[1]}"
    program.parent.mkdir(parents=True)
    text = ".".join(map(str, version))
    program.write_text(
        FAKE_PYTHON.format(python=sys.executable, version=version, text=text, prefix=str(folder)), encoding="utf-8"
    )
    program.chmod(0o755)
    return program


def make_env(tmp_path, python):
    "What `make PYTHON=...` says in a fresh copy, to the point where it makes the environment."
    for name in ("Makefile", "requirements.txt", "settings.ini", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", f"PYTHON={python}", "env"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 11, 2), (3, 11, 5), (3, 11, 14), (3, 12, 0)], ids=str)
def test_make_says_which_python_it_needs_before_it_installs(tmp_path, version):
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    stated = ">=" + config["DEFAULT"]["min_python"]
    assert f'requires-python="{stated}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    done = make_env(tmp_path, fake_python(tmp_path / "fake", *version))
    assert done.returncode != 0
    if SpecifierSet(stated).contains(".".join(map(str, version))):
        assert "asked for venv" in done.stderr
    else:
        assert "needs Python 3.11, 3.11.5 or newer, and this is " + ".".join(map(str, version)) in done.stderr
        assert "make PYTHON=python3.11" in done.stderr
        assert not (tmp_path / ".venv").exists()


def test_make_names_a_python_that_is_not_there(tmp_path):
    done = make_env(tmp_path, "python3.99")
    assert done.returncode != 0
    assert "python3.99 does not start; name another Python: make PYTHON=python3.11" in done.stderr


def test_kernel_is_of_this_environment_whoever_owns_it(monkeypatch):
    "Jupyter looks into the user's own folder first where the environment is another user's, unless it is told."
    monkeypatch.setattr(paths, "_do_i_own", lambda path: False)
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH", raising=False)
    assert not paths.jupyter_path("kernels")[0].startswith(sys.prefix), "the trap is there"
    settings = re.search(r"^SETTINGS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    for setting in settings:
        monkeypatch.setenv(*setting.split("=", 1))
    assert paths.jupyter_path("kernels")[0].startswith(sys.prefix)


def run_there(folder, *arguments):
    "A finished Python program that was started in another folder."
    return run_python(*arguments, cwd=folder)


def test_a_typed_path_is_of_the_folder_where_it_is_typed(tmp_path):
    "Before that of the project; what is missing in both is named with both."
    mine = tmp_path / "configs"
    mine.mkdir()
    (mine / "sample.yaml").write_text("name: mine\ntrain:\n  epoch: 3\n", encoding="utf-8")
    done = run_there(tmp_path, "-m", "rts_nb.train", "--config", "configs/sample.yaml")
    assert "is not given; extend" in last_line(done.stderr), "the one of the folder, not of the project"
    done = run_there(tmp_path, ROOT / "check_data.py", "--config", "configs/sample.yaml")
    assert "is not given; extend" in last_line(done.stderr)
    done = run_there(tmp_path, "-m", "rts_nb.train", "--config", "configs/absent.yaml")
    assert f"is missing (looked up from {tmp_path} and from {ROOT}); configs/ has" in last_line(done.stderr)
    done = run_there(tmp_path, "-m", "rts_nb.train", "--config", "configs/test.yaml", "--seed", "-1")
    assert "seed: Input should be greater" in last_line(done.stderr), "the project's, which the folder lacks"


def test_inputs_of_maps_and_collections_are_looked_up_too(tmp_path):
    from rts_nb.mapping.command import infer_arguments

    (tmp_path / "scenes").mkdir()
    (tmp_path / "dem.tif").touch()
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        line = "--model-dir runs/x --scenes scenes data/y --dem dem.tif --out-dir maps"
        given = infer_arguments(line.split())
    finally:
        os.chdir(here)
    found = (given.model_dir, given.scenes, given.dem, given.out_dir)
    assert found == ("runs/x", [str(tmp_path / "scenes"), "data/y"], str(tmp_path / "dem.tif"), "maps")
    done = run_there(tmp_path, "-m", "rts_nb.train", "--collect", "runs/absent")
    assert f"runs/absent: nothing of that name (looked up from {tmp_path} and from {ROOT})" in last_line(done.stderr)
