"""Files of others, broken at random: a message in one line, or a result; never another error, never code that runs.

A few dozen tries here; RTS_TRIES=2000 makes as many of each (make test-all does a thousand).
"""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from programs import ROOT, read_json
from toy_map import make_place

from rts_nb.calibration.looks import looks_of
from rts_nb.calibration.thresholds import caveats, load_calibration, operating_point
from rts_nb.core.files import RTSError, write_json
from rts_nb.networks.pretrained import pretrained_weights
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.scenes import list_scenes
from rts_nb.reviewing.examples import example_review
from rts_nb.reviewing.verdicts import read_verdicts
from rts_nb.runs.directory import DamagedCheckpointError, read_checkpoint
from rts_nb.runs.handed_over import CHECKSUMS, opened_model
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.settings.config import load_config
from rts_nb.tiles.checks import check_dataset
from rts_nb.tiles.sample import make_sample

TRIES = int(os.environ.get("RTS_TRIES", 1000 if "RTS_LONG" in os.environ else 25))
FREELY = settings(
    max_examples=TRIES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def replaced(tree, data):
    "A nested dict or list with one value in it, at a random place, taken away or made another."
    if isinstance(tree, dict) and tree:
        key = data.draw(st.sampled_from(sorted(tree)))
        rest = {k: v for k, v in tree.items() if k != key}
        what = data.draw(st.sampled_from(("deeper", "gone", "other")))
        if what == "gone":
            return rest
        return rest | {key: replaced(tree[key], data) if what == "deeper" else data.draw(JSON)}
    if isinstance(tree, list) and tree:
        place = data.draw(st.integers(0, len(tree) - 1))
        return [*tree[:place], replaced(tree[place], data), *tree[place + 1 :]]
    return data.draw(JSON)


def damaged(content: bytes, data) -> bytes:
    "Bytes with some of them changed, or cut off."
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from((len(changed), len(changed), len(changed) // 2)))
    return bytes(changed[:end])


def is_refused(call, *arguments) -> bool:
    "Whether a call ends in one line of ours; any other error is the test's failure."
    try:
        call(*arguments)
    except RTSError as e:
        assert len(str(e).splitlines()) == 1, f"more than a line: {e}"
        return True
    return False


class Bomb:
    "What leaves a file when it is unpickled."

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


# ---------------------------------------------------------------- configs


@FREELY
@given(text=st.text(max_size=200))
@example(text="!!python/object/apply:os.system ['touch taken']")
@example(text="extends: /etc/passwd")
@example(text="extends: test.yaml\nname: " + "a" * 10000)
def test_any_text_as_a_config(text, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "hostile.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert is_refused(load_config, file)
    assert not (ROOT / "taken").exists()


def test_a_config_that_contains_itself(tmp_path):
    (tmp_path / "circle.yaml").write_text("a: &a [*a]", encoding="utf-8")
    assert is_refused(load_config, tmp_path / "circle.yaml")


@FREELY
@given(data=st.data())
def test_a_config_with_another_value(data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "changed.yaml"
    cfg = load_config("configs/test.yaml").model_dump(mode="json")
    file.write_text(yaml.safe_dump(replaced(cfg, data)), encoding="utf-8")  # .inf and .nan are numbers there
    is_refused(load_config, file)


@FREELY
@given(overrides=st.text(max_size=60))
def test_any_text_as_overrides(overrides):
    is_refused(load_config, "configs/test.yaml", overrides)


# ---------------------------------------------------------------- models and calibrations


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "A calibrated model."
    return make_place(tmp_path_factory.mktemp("hostile"), rows=[1], slumps=2) / "model"


def use_calibration(folder: Path):
    "What a map reads of a calibration."
    calibration = load_calibration(folder)
    operating_point(calibration)
    caveats(calibration)
    looks_of(folder)


UNSHRUNK = settings(FREELY, phases=(Phase.explicit, Phase.generate))


@UNSHRUNK
@given(data=st.data())
def test_a_calibration_with_another_value(data, model, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "calibration"
    folder.mkdir(exist_ok=True)
    content = replaced(read_json(model / "calibration.json"), data)
    (folder / "calibration.json").write_text(json.dumps(content), encoding="utf-8")
    is_refused(use_calibration, folder)


@UNSHRUNK
@given(data=st.data(), name=st.sampled_from(("calibration.json", "model.safetensors", "normalization_stats.json")))
def test_a_model_of_damaged_files(data, name, model, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    (folder / name).write_bytes(damaged((model / name).read_bytes(), data))
    is_refused(use_calibration, folder)
    is_refused(Predictor.from_dir, folder, "cpu")


def test_no_file_runs_code(tmp_path):
    "A pickle in place of a checkpoint, of an encoder's weights, of scores."
    mark, bomb = tmp_path / "taken", tmp_path / "bomb.pt"
    torch.save({"weights": Bomb(mark)}, bomb)
    with pytest.raises(DamagedCheckpointError):
        read_checkpoint(bomb)
    assert is_refused(pretrained_weights, f"file:{bomb}", "resnet18", "unet")
    np.save(tmp_path / "counts.npy", np.array([Bomb(mark)], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "scores.npz", "w") as archive:
        archive.write(tmp_path / "counts.npy", "counts.npy")
    with pytest.raises((RTSError, ValueError, KeyError)):
        ScoreHistogram.load(tmp_path / "scores.npz")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the same pickle takes where pickles are read"


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "a/../../escaped", "C:\\escaped", "..\\escaped"])
def test_no_archive_leaves_its_folder(path, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(path, "x")
        archive.writestr(CHECKSUMS, f"{'0' * 64}  {path}\n")
    assert is_refused(opened_model, tmp_path / "model.zip")
    assert [file.name for file in tmp_path.rglob("*")] == ["model.zip"]


# ---------------------------------------------------------------- data and scenes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    "A dataset of 18 tiles."
    root = tmp_path_factory.mktemp("hostile-data") / "rts"
    return make_sample(root, tile_size=32, n_regions=6, n_positive=9, n_negative=9, n_scenes=0)


TABLES = ("metadata.csv", "splits.yaml", "version.json", "normalization_stats.json")


@settings(FREELY, max_examples=max(TRIES // 2, 20))
@given(data=st.data(), name=st.sampled_from(TABLES))
def test_a_dataset_of_damaged_tables(data, name, dataset, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "tables"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(dataset, root)
    (root / name).write_bytes(damaged((dataset / name).read_bytes(), data))
    try:
        faults = check_dataset(root)
    except RTSError as e:
        faults = [str(e)]
    assert all(len(str(fault).splitlines()) == 1 for fault in faults), faults


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    "A GeoTIFF of 40 x 40 pixels."
    path = tmp_path_factory.mktemp("hostile-scene") / "scene.tif"
    at = dict(crs="EPSG:3413", transform=Affine(3, 0, -2_000_000, 0, -3, 600_000))
    with rasterio.open(path, "w", driver="GTiff", count=3, width=40, height=40, dtype="uint8", **at) as out:
        out.write(np.random.default_rng(0).integers(1, 255, (3, 40, 40), np.uint8))
    return path


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor.from_dir(model, "cpu")


def read_scene(predictor: Predictor, path: Path):
    "All windows of a scene, and a place for each."
    for scene in list_scenes(str(path)).values():
        if not scene.fault:
            for _ in predictor.scene(scene):
                pass


@FREELY
@given(data=st.data())
def test_a_damaged_geotiff(data, raster, predictor, tmp_path_factory):
    "Its header above all: size, bands, place, offsets."
    path = tmp_path_factory.getbasetemp() / "scene.tif"
    content = raster.read_bytes()
    head = damaged(content[:400], data)
    path.write_bytes(head + content[400:] if data.draw(st.booleans()) else head)
    is_refused(read_scene, predictor, path)


def test_a_scene_of_a_local_crs(predictor, raster, tmp_path):
    path = tmp_path / "local.tif"
    shutil.copy(raster, path)
    with rasterio.open(path, "r+") as scene:
        scene.crs = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert is_refused(read_scene, predictor, path)


# ---------------------------------------------------------------- verdicts


@pytest.fixture(scope="module")
def review(tmp_path_factory):
    "A sample, and a verdict file on its first batch."
    place = example_review(tmp_path_factory.mktemp("hostile-review"), n_batches=1)
    plan = read_json(place.review_dir / "plan.json")
    verdict = dict(item="i000001", verdict="rts", time="2026-11-27T10:00:00Z", points=[], outline=None, note="")
    file = dict(format="rts_nb verdicts 1", map=plan["map"], sample=plan["sample"], batch=1, reviewer="ana")
    return place.review_dir, file | dict(saved="2026-11-27T10:00:00Z", finished=False, verdicts=[verdict])


@FREELY
@given(data=st.data())
def test_a_verdict_file_with_another_value(data, review, tmp_path_factory):
    review_dir, content = review
    file = tmp_path_factory.getbasetemp() / "verdicts.json"
    write_json(file, content)
    changed = replaced(content, data)
    file.write_text(json.dumps(changed), encoding="utf-8")
    is_refused(read_verdicts, [file], review_dir)


@FREELY
@given(content=st.binary(max_size=200))
def test_any_bytes_as_verdicts(content, review, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "bytes.json"
    file.write_bytes(content)
    assert is_refused(read_verdicts, [file], review[0])
