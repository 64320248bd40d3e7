"""Tests run on the test config and in an empty folder of runs, unless `make test` has made one already."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import browser
import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE = None

if "RTS_RUNS" not in os.environ:
    MADE = os.environ["RTS_RUNS"] = tempfile.mkdtemp(prefix="rts_runs_")
if "PYTEST_XDIST_WORKER" in os.environ:  # each process of pytest -n has runs of its own
    os.environ["RTS_RUNS"] = str(Path(os.environ["RTS_RUNS"]) / os.environ["PYTEST_XDIST_WORKER"])
    os.makedirs(os.environ["RTS_RUNS"], exist_ok=True)
os.environ.setdefault("RTS_CONFIG", "configs/test.yaml")
os.environ.pop("MLFLOW_TRACKING_URI", None)


# Files of minutes, begun first: with a file's tests in one process, the last file would keep one core waiting.
LONGEST = ("test_survival", "test_program", "test_engines", "test_planet", "test_calibrate", "test_infer", "test_ranks")


IS_LONG = "RTS_LONG" in os.environ  # as make test-all sets it


def pytest_configure(config):
    config.addinivalue_line("markers", "long: a minute or more, of what shorter tests touch too; make test-all")


def pytest_collection_modifyitems(items):
    left_out = pytest.mark.skip(reason="a minute or more: make test-all runs it")
    for item in items:
        if item.get_closest_marker("long") and not IS_LONG:
            item.add_marker(left_out)
    place = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def pytest_sessionfinish():
    if MADE:
        shutil.rmtree(MADE, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def one_browser(request):
    "The tests of a file that open pages share a browser, which takes some seconds to start."
    if hasattr(request.module, "opened") and browser.CHROMIUM:
        with browser.shared():
            yield
    else:
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    "A dataset of 70 tiles of 64 pixels, for trainings of seconds."
    from rts_nb.tiles.sample import make_sample

    root = tmp_path_factory.mktemp("data") / "tiny"
    return make_sample(root, tile_size=64, n_regions=6, n_positive=30, n_negative=40, n_scenes=0)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    "The run of a short training that nothing disturbed."
    from short_training import go

    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("pre-flight  ok       data "), done.stdout
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A model and six scenes in a column; files with other scenes have a `place` of their own."
    from toy_map import make_place

    return make_place(tmp_path_factory.mktemp("place"), rows=[1] * 6, slumps=6)


@pytest.fixture(scope="module")
def whole(place):
    "The map that this process makes of the scenes, uninterrupted."
    from rts_nb.infer import infer

    infer(place / "model", place / "scenes", place / "whole")
    return place / "whole"


def find_folder(variable, name, holds):
    "The folder of real data named by an environment variable, or in data/ or ../shared/data/; None if not here."
    named = os.environ.get(variable)
    places = [Path(named)] if named else []
    places += [ROOT / "data" / name, ROOT.parent / "shared" / "data" / name]
    for folder in places:
        if (folder / holds).exists():
            return folder
    return None


REAL_IMAGES = find_folder("RTS_PUBLIC_IMAGES", "rts-yang2023", "images")
REAL_OUTLINES = find_folder("RTS_POLYGONS", "rts-polygons", "nitze2021.shp")


def drawn_and(real):
    "Tests run on what they draw themselves, and on the real data where these are here."
    return ["drawn", "real"] if real else ["drawn"]


class PublicSet(NamedTuple):
    "Images laid out like the public ones."

    folder: Path  # with images/ and masks/
    tiles: int  # at least so many of 128 pixels


@pytest.fixture(params=drawn_and(REAL_IMAGES))
def public_set(request, tmp_path):
    "Three small images with ten slumps, and the public images where they are here."
    if request.param == "real":
        return PublicSet(REAL_IMAGES, tiles=4001)
    from drawn import draw_public_images

    return PublicSet(draw_public_images(tmp_path / "drawn"), tiles=20)


class OutlineSet(NamedTuple):
    "Layers of outlines and what is known about them."

    folder: Path  # of Shapefiles
    outlines: dict  # number by layer
    repaired: dict  # number by layer, where it is not 0
    dated: str  # the layer with regions and dates, several years of the same places
    regions: set  # of the dated layer
    latest: int  # outlines of the dated layer that `latest` keeps
    ground: tuple  # the ground of these, as a share of that of all years, lies between
    one_site: str  # a layer of a single site; one of its outlines is in several parts
    empty: str  # a layer without a feature


@pytest.fixture(scope="session", params=drawn_and(REAL_OUTLINES))
def outline_set(request, tmp_path_factory):
    "Two dozen outlines in four layers, and the real ones where they are here."
    if request.param == "real":
        return OutlineSet(
            REAL_OUTLINES,
            outlines={"nitze2021": 2182, "witharana2022": 356, "banks_island": 262, "runge2022_empty": 0},
            repaired={"nitze2021": 5, "witharana2022": 1},
            dated="nitze2021",
            regions={"Banks_Island", "Horton", "Tuktoyaktuk", "Kolguev", "Lena", "Herschel"},
            latest=487,
            ground=(0.85, 0.9),
            one_site="banks_island",
            empty="runge2022_empty",
        )
    from drawn import draw_outlines

    return OutlineSet(
        draw_outlines(tmp_path_factory.mktemp("outlines")),
        outlines={"two_years": 12, "stereographic": 2, "one_site": 12, "empty": 0},
        repaired={"two_years": 2, "stereographic": 1},
        dated="two_years",
        regions={"Peel", "Lena", "Kolguev"},
        latest=6,
        ground=(0.9, 0.99),
        one_site="one_site",
        empty="empty",
    )
