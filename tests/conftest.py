"""Tests run on the test config and in an empty folder of runs, unless `make test` has made one already."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE = None

if "RTS_RUNS" not in os.environ:
    MADE = os.environ["RTS_RUNS"] = tempfile.mkdtemp(prefix="rts_runs_")
os.environ.setdefault("RTS_CONFIG", "configs/test.yaml")
os.environ.pop("MLFLOW_TRACKING_URI", None)


def pytest_sessionfinish():
    if MADE:
        shutil.rmtree(MADE, ignore_errors=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    "A dataset of 70 tiles of 64 pixels, for trainings of seconds."
    from rts_nb.tiles.sample import make_sample

    return make_sample(
        tmp_path_factory.mktemp("data") / "tiny", tile_size=64, n_regions=6, n_positive=30, n_negative=40, n_scenes=0
    )


@pytest.fixture
def public_images():
    "The public images, where they are: $RTS_PUBLIC_IMAGES, data/rts-yang2023, or ../shared/data/rts-yang2023."
    for folder in (
        os.environ.get("RTS_PUBLIC_IMAGES"),
        ROOT / "data" / "rts-yang2023",
        ROOT.parent / "shared" / "data" / "rts-yang2023",
    ):
        if folder and (Path(folder) / "images").is_dir():
            return Path(folder)
    pytest.skip("the public images are not here (set RTS_PUBLIC_IMAGES to see this test run)")


@pytest.fixture(scope="session")
def rts_polygons():
    "Folder of real outlines: $RTS_POLYGONS, data/rts-polygons, or ../shared/data/rts-polygons."
    for folder in (
        os.environ.get("RTS_POLYGONS"),
        ROOT / "data" / "rts-polygons",
        ROOT.parent / "shared" / "data" / "rts-polygons",
    ):
        if folder and (Path(folder) / "nitze2021.shp").exists():
            return Path(folder)
    pytest.skip("the real outlines are not here (set RTS_POLYGONS to see this test run)")


@pytest.fixture(scope="session")
def real_outlines():
    "The folder of real outlines: $RTS_POLYGONS, data/rts-polygons, or ../shared/data/rts-polygons."
    for folder in (
        os.environ.get("RTS_POLYGONS"),
        ROOT / "data" / "rts-polygons",
        ROOT.parent / "shared" / "data" / "rts-polygons",
    ):
        if folder and list(Path(folder).glob("*.shp")):
            return Path(folder)
    pytest.skip("the real outlines are not here (set RTS_POLYGONS to see this test run)")
