"""The house rules: exports in step, notebooks clean, chapters in order, README in step, configs valid."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from readme import ROOT, readme

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
CHAPTERS = {m[2]: int(m[1]) for p in NOTEBOOKS if (m := re.match(r"(\d\d)_(\w+)", p.stem))}


def copy_of_project(folder):
    "The files that nbdev needs, copied, so that a check never changes the tree it checks."
    for name in ("nbs", "rts_nb"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "setup.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def changed(before, after, pattern):
    return [p.name for p in sorted((before).glob(pattern)) if p.read_bytes() != (after / p.name).read_bytes()] + [
        p.name for p in sorted(after.glob(pattern)) if not (before / p.name).exists()
    ]


@pytest.mark.parametrize(
    "command, folder, pattern", [("nbdev_export", "rts_nb", "*.py"), ("nbdev_clean", "nbs", "*.ipynb")]
)
def test_in_step(tmp_path, command, folder, pattern):
    copy = copy_of_project(tmp_path)
    subprocess.run([command], cwd=copy, check=True, capture_output=True)
    assert changed(ROOT / folder, copy / folder, pattern) == [], (
        f"{command} changes these files; run make prep and commit"
    )


def imports(module):
    for node in ast.walk(ast.parse((ROOT / "rts_nb" / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rts_nb."):
            yield node.module.split(".")[1]
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("rts_nb."))


@pytest.mark.parametrize("module", CHAPTERS)
def test_chapters_import_only_earlier_ones(module):
    later = [m for m in imports(module) if CHAPTERS.get(m, -1) >= CHAPTERS[module]]
    assert not later, f"{module} imports {later}, which come later"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_light_and_fresh(path):
    notebook, text = json.loads(path.read_text()), path.read_text()
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert len(text) < 1.5e6, f"{path.name} has {len(text) / 1e6:.1f} MB"
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all("".join(c["source"]).strip() for c in code), "an empty code cell"
    assert not any(o["output_type"] == "error" for c in code for o in c["outputs"]), "an error stands in an output"
    outputs = json.dumps([c["outputs"] for c in code])
    assert not re.search(r"/(root|home|tmp|work)/", outputs), "an absolute path stands in an output"
    heavy = [
        len(o["data"]["image/png"]) * 3 // 4 for c in code for o in c["outputs"] if "image/png" in o.get("data", {})
    ]
    assert max(heavy, default=0) < 150_000, f"a figure of {max(heavy) // 1000} kB"


@pytest.mark.parametrize("name", ["00_data", "20_train", "30_calibrate", "40_infer", "50_report"])
def test_report_notebooks_have_parameters_in_run(name):
    cells = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text())["cells"]
    tagged = [k for k, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", [])]
    run = [k for k, c in enumerate(cells) if c["cell_type"] == "markdown" and "".join(c["source"]).startswith("## Run")]
    assert len(tagged) == len(run) == 1 and run[0] < tagged[0], "one cell tagged parameters, in the section Run"
    assert "check_parameters" in "".join(cells[tagged[0] + 1]["source"]), (
        "parameters are checked right after they are given"
    )
    assert "#| export" not in "".join("".join(c["source"]) for c in cells[run[0] :]), "Run holds no library code"


def test_readme_in_step():
    assert (ROOT / "README.md").read_text() == readme(), "run make readme"


def test_requirements_are_exact():
    lines = [l.split("#")[0].strip() for l in (ROOT / "requirements.txt").read_text().splitlines()]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", l) for l in lines if l)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_configs_are_valid(path):
    from rts_nb.settings.config import load_config

    assert load_config(path).name == path.stem


def test_container_sets_what_the_environment_sets():
    "The Dockerfile's environment and its kernel carry every setting of the Makefile; it names no secret, opens no port and is no one's root."
    makefile, docker = (ROOT / "Makefile").read_text(), (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    settings = dict(s.split("=", 1) for s in re.search(r"^SETTINGS := (.*)$", makefile, re.M)[1].split())
    given = dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", docker, re.M))))
    assert settings.items() <= given.items() and given["RTS_CONFIG"] == "configs/baseline.yaml"
    assert dict(re.findall(r"--env (\w+) (\S+)", docker)) == settings
    assert re.search(r"-e '(.*?)'", makefile)[1] == re.search(r"-e '(.*?)'", docker)[1], "the same extras"
    steps = [l for l in docker.splitlines() if not l.startswith("#")]
    assert not any(l.startswith(("EXPOSE", "ADD")) for l in steps) and [l for l in steps if l.startswith("USER")] == [
        "USER 1000"
    ]
    assert {".git", "data", "runs", ".venv", "**/.env*"} <= set((ROOT / ".dockerignore").read_text().split())
