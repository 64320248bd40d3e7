"""The house rules: one notebook a module, rooms in order, small, formatted, typed, fresh outputs, working links."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from freshness import stale
from house import (
    ORDER,
    ROOT,
    code_cells,
    ends_in_value,
    imported_modules,
    is_lesson,
    module_of,
    modules,
    name_of,
    non_blank,
    notebooks,
    position,
)
from readme import readme

NOTEBOOKS = notebooks()
MODULES = modules()
REPORTS = ["00_data", "20_train", "30_calibrate", "40_infer", "45_review", "46_labels", "50_report"]


def identify(path):
    return str(path.relative_to(ROOT))


def run(*command, cwd=ROOT):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def files_below(folder, pattern):
    "Relative path → content of every file below a folder."
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob(pattern)}


# ---------------------------------------------------------------- notebooks and modules


def test_the_walk_sees_the_house():
    "A walk that finds nothing would let every other test here pass."
    assert len(NOTEBOOKS) > 50 and len(MODULES) > 50


@pytest.mark.parametrize(
    "command, folder, pattern", [("nbdev_export", "rts_nb", "*.py"), ("nbdev_clean", "nbs", "*.ipynb")]
)
def test_exported_and_clean(tmp_path, command, folder, pattern):
    "In a copy, so that a check never changes the tree that it checks."
    for name in ("nbs", "rts_nb"):
        left_out = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left_out)
    for name in ("settings.ini", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    before = files_below(tmp_path / folder, pattern)
    assert run(command, cwd=tmp_path).returncode == 0
    after = files_below(tmp_path / folder, pattern)
    changed = [str(name) for name in after if after[name] != before.get(name)]
    assert changed == [], f"{command} changes these files; run make prep and commit"


def test_every_module_has_one_notebook():
    "nbdev_export deletes nothing: a module stays when its notebook is renamed."
    exported = [name for name in map(module_of, NOTEBOOKS) if name]
    assert sorted(exported) == sorted(name_of(path) for path in MODULES)


def test_rooms_import_only_what_stands_above():
    "Relative and absolute imports, at the top and inside functions; inside a folder only smaller numbers."
    numbers = {module_of(path): path.stem for path in NOTEBOOKS}
    names = [name_of(path) for path in MODULES]
    seen, backward = 0, []
    for path in MODULES:
        importer = name_of(path)
        for imported in imported_modules(path.read_text(encoding="utf-8"), importer, set(names)):
            seen += 1
            if position(imported, numbers) >= position(importer, numbers):
                backward.append(f"{importer} imports {imported}")
    assert backward == []
    assert seen > 300, f"only {seen} imports were seen"


@pytest.mark.parametrize(
    "source",
    [
        "from ..infer import infer",
        "from rts_nb.infer import infer",
        "import rts_nb.infer",
        "from .. import infer",
        "def f():\n    from ..infer import infer",
    ],
)
def test_a_backward_import_is_seen(source):
    assert list(imported_modules(source, "tiles.layout", {"infer", "tiles.layout"})) == ["infer"]


def test_one_meaning_a_name():
    "A public name is defined in one module; `main` is every command's."
    where: dict[str, list[str]] = {}
    for path in MODULES:
        for name in set(re.findall(r"^(?:def|class) ([a-zA-Z]\w*)", path.read_text(encoding="utf-8"), re.M)):
            where.setdefault(name, []).append(name_of(path))
    several = {name: places for name, places in where.items() if len(places) > 1 and name != "main"}
    assert several == {}


def unstated_encodings(source: str) -> list[int]:
    "Lines that read or write text in the encoding of whatever locale is set."
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and a.value in ("w", "a", "r", "x")]
        is_open = name == "open" and (isinstance(node.func, ast.Name) or modes)
        is_binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in node.args[1:2])
        is_raster = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in (
            "rasterio",
            "memory",
        )
        of_method = name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute)
        if of_method or (is_open and not is_binary and not is_raster):
            found.append(node.lineno)
    return found


def test_text_is_utf8_whatever_the_locale():
    places = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").glob("*.py"), *(ROOT / "tools").glob("*.py")]
    found = {}
    for path in places:
        lines = unstated_encodings(path.read_text(encoding="utf-8"))
        if lines:
            found[path.name] = lines
    assert found == {}
    assert unstated_encodings("path.read_text()\nopen('a', 'w')\nopen('a', 'rb')\nrasterio.open(p, 'w')") == [1, 2]


def test_pytest_collects_nothing_from_the_package():
    assert [name_of(path) for path in MODULES if re.search(r"^def test_", path.read_text(encoding="utf-8"), re.M)] == []


def test_tops_of_the_order_exist():
    tops = {name_of(path).split(".")[0] for path in MODULES}
    assert tops <= set(ORDER), "a folder or report that has no place in the order"


# ---------------------------------------------------------------- sizes and style


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_module_is_small(path):
    lines = non_blank(path.read_text(encoding="utf-8"))
    assert lines <= 400, f"{lines} lines; split it along its ideas"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_cells_are_small(path):
    long = [source.splitlines()[:2] for source in code_cells(path) if non_blank(source) > 40]
    assert long == []


def test_most_lessons_end_in_a_value():
    lessons = [source for path in NOTEBOOKS for source in code_cells(path) if is_lesson(source)]
    share = sum(map(ends_in_value, lessons)) / len(lessons)
    assert len(lessons) > 300 and share >= 0.6, f"{share:.0%} of {len(lessons)} lesson cells end in a value"


LINTED = ("nbs", "tests", "bench", "tools", "check_data.py", "setup.py")


@pytest.mark.parametrize("command", [("format", "--check"), ("check",)], ids=["format", "check"])
def test_ruff(command):
    done = run("ruff", *command, *LINTED)
    assert done.returncode == 0, done.stdout[-3000:]


def test_mypy():
    done = run("mypy")
    assert done.returncode == 0, done.stdout[-3000:]


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_notebook_is_light(path):
    text, notebook = path.read_text(encoding="utf-8"), json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(text) < 2e6, f"{len(text) / 1e6:.1f} MB"
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all("".join(cell["source"]).strip() for cell in code), "an empty code cell"
    outputs = json.dumps([cell["outputs"] for cell in code])
    assert '"output_type": "error"' not in outputs, "an error stands in an output"
    assert not re.search(r"/(root|home|tmp|work)/", outputs), "an absolute path stands in an output"
    assert "TODO" not in "".join("".join(cell["source"]) for cell in notebook["cells"])  # a picture may spell it


def test_outputs_are_fresh():
    "Of the code beside them: the digest that a notebook carries is that of its cells and of what it imports."
    assert [identify(path) for path in stale()] == [], "run make notebooks and commit"


# ---------------------------------------------------------------- reports


@pytest.mark.parametrize("name", REPORTS)
def test_report_is_thin(name):
    "One tagged cell of parameters, checked right after; no library code behind it."
    cells = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    tagged = [k for k, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    after = ["".join(cell["source"]) for cell in cells[tagged[0] + 1 :] if cell["cell_type"] == "code"]
    assert "check_parameters" in after[0], "parameters are checked right after they are given"
    assert not any("#| export" in source for source in after)
    assert len(cells) < 60


@pytest.mark.parametrize("name", REPORTS)
def test_papermill_knows_every_parameter(name):
    "`papermill --help-notebook` prints each with its type; a quoted = in a comment would hide one."
    cells = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    typed = re.findall(r"^(\w+): (\w+) = ", source, re.M)
    assert len(typed) == len([line for line in source.splitlines() if line and not line.startswith("#")])
    done = run("papermill", "--help-notebook", f"nbs/{name}.ipynb")
    for parameter, kind in typed:
        assert re.search(rf"\b{parameter}: {kind} ", done.stdout), f"{parameter} is not listed: {done.stdout}"


# ---------------------------------------------------------------- files beside the notebooks


def test_readme_in_step():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(), "run make readme"


def linked_files(path):
    "The local files that a page links to."
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"(https?:|mailto:|#)", target):
            yield target.split("#")[0]


def test_links_of_pages_resolve():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    links = [(page, target) for page in pages for target in linked_files(page)]
    broken = [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert broken == [] and len(links) > 20


def test_links_of_notebooks_resolve():
    pattern = re.compile(r"\]\((?!https?:|#|attachment:)([^)\s#]+)[^)]*\)")
    broken = []
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                for target in pattern.findall("".join(cell["source"])):
                    if not (path.parent / target).exists():
                        broken.append(f"{identify(path)}: {target}")
    assert broken == []


def test_requirements_are_exact():
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines if line)


def test_precommit_runs_the_pinned_tools():
    "Local hooks only: what pre-commit runs is what requirements.txt pins."
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert {"ruff", "mypy"} <= set(re.findall(r"entry: (\w+)", text))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_valid(path):
    from rts_nb.settings.config import load_config

    assert load_config(path).name == path.stem


def test_container_sets_what_the_environment_sets():
    """The Dockerfile's environment and its kernel carry every setting of the Makefile.

    It names no secret, opens no port and runs as an ordinary user.
    """
    makefile, docker = (
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " "),
    )
    settings = dict(s.split("=", 1) for s in re.search(r"^SETTINGS := (.*)$", makefile, re.M)[1].split())
    given = dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", docker, re.M))))
    assert settings.items() <= given.items() and given["RTS_CONFIG"] == "configs/baseline.yaml"
    assert dict(re.findall(r"--env (\w+) (\S+)", docker)) == settings
    assert re.search(r"-e '(.*?)'", makefile)[1] == re.search(r"-e '(.*?)'", docker)[1], "the same extras"
    steps = [line for line in docker.splitlines() if not line.startswith("#")]
    assert not any(line.startswith(("EXPOSE", "ADD")) for line in steps)
    assert [line for line in steps if line.startswith("USER")] == ["USER 1000"]
    assert steps[-1] == 'CMD ["python", "-m", "rts_nb.train"]', "a signal reaches what trains"
    ignored = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    assert {".git", "data", "runs", ".venv", "**/.env*"} <= ignored


def test_elapsed_time_is_never_of_the_wall_clock():
    "A clock that is set would move hours and costs; MLflow alone wants the time of day."
    found = [str(path.relative_to(ROOT)) for path in MODULES if "time.time()" in path.read_text(encoding="utf-8")]
    assert found == ["rts_nb/runs/tracking.py"], "use time.monotonic()"
