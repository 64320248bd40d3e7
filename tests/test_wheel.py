"""A built wheel holds what the package reads at run time."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("setup.py", "settings.ini", "pyproject.toml", "README.md")


def test_wheel_holds_every_template_and_table(tmp_path):
    "Built from a copy, so that neither this tree nor an old build folder plays a part."
    source = tmp_path / "source"
    shutil.copytree(ROOT / "rts_nb", source / "rts_nb", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    built = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    wheel = next(tmp_path.glob("*.whl"))
    read = [*(ROOT / "rts_nb" / "templates").rglob("*.*"), *(ROOT / "rts_nb" / "data_files").glob("*.csv")]
    expected = {path.relative_to(ROOT).as_posix() for path in read}
    named = {"templates/map.html.j2", "templates/map.js", "templates/vendor/ol.js", "templates/report/style.css"}
    assert {f"rts_nb/{name}" for name in named} <= expected
    assert expected <= set(zipfile.ZipFile(wheel).namelist())
