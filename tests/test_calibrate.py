"""Calibration and the report of seeds as their users run them.

The executed notebook, looks that nothing resets, what calibration.json holds, one line for bad input.
"""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from programs import cells_of, outputs_of, papermill, read_json

from rts_nb.calibrate import calibrate, calibrated_run
from rts_nb.calibration.looks import final_evaluation, looks_of
from rts_nb.calibration.noise import compare_tta, noise_floor
from rts_nb.calibration.object_scores import expected_precision
from rts_nb.calibration.passes import split_tiles
from rts_nb.calibration.tables import saved_scores
from rts_nb.calibration.thresholds import load_calibration
from rts_nb.core.files import ConfigError, DataError, RTSError, RunError, resolve, write_json
from rts_nb.infer import infer
from rts_nb.predict.predictor import Predictor
from rts_nb.runs.examples import quick_run
from rts_nb.runs.set_aside import set_aside
from rts_nb.scores.objects import match_objects
from rts_nb.settings.config import load_config, override_config, save_config
from rts_nb.tiles.layout import tile_path
from rts_nb.tiles.loading import EvalTiles
from rts_nb.training.preflight import noise_check


@pytest.fixture
def run(tmp_path):
    "The calibrated sample run, copied to a folder of runs of its own, without looks and scores."
    left_out = shutil.ignore_patterns(".lock", "test_looks.json", "mlflow.json", "scores", "expected.json")
    return Path(shutil.copytree(calibrated_run(), tmp_path / "runs" / "test" / "seed-42", ignore=left_out))


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    "A run of a network that was fitted, not trained."
    return quick_run(tmp_path_factory.mktemp("quick"))


def calibration_outputs(run, out, **more):
    "Executes the report of a calibration; the outputs of its cells from the heading Run on."
    parameters = dict(run_dir=run, compare="none standard", regions="all") | more
    done = papermill("30_calibrate", out, env={"RTS_RUNS": str(run.parent.parent)}, **parameters)
    assert done.returncode == 0, done.stderr[-2000:]
    cells = cells_of(out)
    headings = ["".join(cell["source"]).startswith("## Run") for cell in cells]
    return outputs_of(cells[headings.index(True) :])


def lose_tracking_store(runs):
    for file in runs.glob("mlflow.db*"):
        file.unlink()


LOOK_SAYS = (
    "Test-Realistic 1:1000",
    "look 1 of 1",
    "was promised",
    "detections on ignored ground, excused",
    "200 m - 1 km",
)
REPORT_SAYS = (
    "negative log-likelihood",
    "false detections per 1,000 km",
    "own threshold",
    "early_stopping.min_delta",
    "this report took",
)


@pytest.mark.long
def test_report_of_a_calibration(run, tmp_path):
    "Twice: the test regions are left alone unless asked for; scores are reused, even where the tracking store is lost."
    first = calibration_outputs(run, tmp_path / "first.ipynb")
    assert "the test regions were not looked at" in first
    assert not looks_of(run)
    lose_tracking_store(run.parent.parent)
    second = calibration_outputs(run, tmp_path / "second.ipynb", evaluate=True)
    for says in LOOK_SAYS:
        assert says in second, says
    for text in (first, second):
        for says in REPORT_SAYS:
            assert says in text, says
    assert (first.count("image/png"), second.count("image/png")) == (5, 6)  # a look has a figure of its own
    reused = "val, TTA standard: scores of"
    assert reused not in first
    assert reused in second, "a repeated calibration reuses the scores, and says so"
    noise = read_json(run / "noise_floor.json")
    assert (noise["state"], noise["reason"]) == ("not measured", "3 stored validations, 4 are needed")


def test_looks_cannot_be_reset(quick, tmp_path):
    """Neither by looking again, nor by calibrating again, nor by starting the training over.

    Another calibration is another look.
    """
    run = Path(shutil.copytree(quick, tmp_path / "runs" / "example" / "seed-42"))
    calibrate(run, 0.8, scales=(1.0, 0.5))
    assert final_evaluation(run)["looks"] == 1
    assert final_evaluation(run)["looks"] == 1
    shutil.rmtree(run / "scores")
    calibrate(run, 0.8, scales=(1.0, 0.5))
    assert final_evaluation(run)["looks"] == 1, "the same calibration, found again"
    calibrate(run, 0.5)
    assert final_evaluation(run)["looks"] == 2
    set_aside(run)  # what train(fresh=True) does first
    assert len(looks_of(run)) == 2
    assert not (run / "model.safetensors").exists()


CALIBRATION_KEYS = {
    "temperature",
    "operating_ratio",
    "thresholds",
    "dataset_version",
    "predictor",
    "unit",
    "n_units",
}
THRESHOLD_KEYS = {
    "threshold",
    "reachable",
    "weighted",
    "precision",
    "precision_ci_low",
    "precision_ci_high",
    "recall",
    "recall_ci_low",
    "recall_ci_high",
    "min_area_m2",
    "precision_of",
}


def test_calibration_json_has_what_the_specification_names(run):
    calibration = calibrate(run, precision_of="objects", tta="minimal")
    assert json.dumps(calibration) == json.dumps(load_calibration(run))  # NaN is NaN
    assert CALIBRATION_KEYS <= set(calibration)
    assert set(calibration["predictor"]) == {"scales", "tta", "merge", "fusion"}
    assert set(calibration["thresholds"]) == {"200", "500", "1000"}
    for entry in calibration["thresholds"].values():
        assert THRESHOLD_KEYS <= set(entry)
        assert entry["precision_ci_low"] <= entry["precision"] <= entry["precision_ci_high"]
        assert entry["recall_ci_low"] <= entry["recall"] <= entry["recall_ci_high"]


def test_prior_shift_lowers_the_odds_where_slumps_are_rarer(quick):
    calibration = calibrate(quick, 0.5, prior_shift_to=1000)
    nll, shift = calibration["nll"], calibration["prior_shift"]
    assert nll["after"] <= nll["before"], "the fitted temperature cannot be less likely than none"
    assert shift["applied"] == shift["offered"]["1000"] < 0
    assert shift["offered"]["200"] == 0, "the ratio that the temperature is fitted at needs no shift"


def test_calibration_of_two_scales_says_what_tiles_cannot_see(quick):
    calibration = calibrate(quick, 0.8, scales=(1.0, 0.5), regions="all")
    assert calibration["predictor"]["scales"] == [1.0, 0.5]
    assert calibration["surroundings"].startswith("reflected")
    assert set(calibration["regions"]) == set(calibration["split_regions"])


@pytest.mark.parametrize("target", [0, 1, 80, -0.5])
def test_target_precision_is_a_number_between_0_and_1(target):
    "Refused before the run is looked for."
    with pytest.raises(ConfigError, match="target_precision is"):
        calibrate("runs/nowhere", target)


def test_unknown_unit_of_precision_is_refused():
    with pytest.raises(ConfigError, match="precision_of is 'tiles'; expected one of pixels, objects"):
        calibrate("runs/nowhere", precision_of="tiles")


def test_missing_run_is_refused():
    with pytest.raises(RunError, match="nowhere has no config.yaml"):
        calibrate("runs/nowhere")


def test_prior_shift_to_a_ratio_that_is_not_calibrated_is_refused(quick):
    with pytest.raises(ConfigError, match="prior_shift_to is 7; expected one of the ratios 200, 500, 1000"):
        calibrate(quick, prior_shift_to=7)


def remove(run, name):
    (run / name).unlink()


def set_stats_version(run, version):
    stats = read_json(run / "normalization_stats.json")
    write_json(run / "normalization_stats.json", stats | dict(dataset_version=version))


def test_data_of_another_version_are_refused(quick, tmp_path):
    "A threshold belongs to the data that it was found on."
    older = Path(shutil.copytree(quick, tmp_path / "runs" / "older" / "seed-42"))
    set_stats_version(older, "1.9")
    with pytest.raises(DataError, match="is of dataset version 2.0, the statistics of .* are of 1.9"):
        calibrate(older)


SPOILED_RUNS = {
    "no metrics": (
        lambda run: remove(run, "metrics.json"),
        calibrate,
        "has no metrics.json; it is not a finished run",
    ),
    "no statistics": (
        lambda run: remove(run, "normalization_stats.json"),
        calibrate,
        "has no normalization_stats.json",
    ),
    "not calibrated": (
        lambda run: remove(run, "calibration.json"),
        final_evaluation,
        "has no calibration.json; calibrate it",
    ),
    "another version": (
        lambda run: set_stats_version(run, "1.0"),
        calibrate,
        "is of dataset version 2.0, the statistics of",
    ),
    "no config": (lambda run: remove(run, "config.yaml"), noise_floor, "lacks config.yaml"),
}
BAD_ARGUMENTS = {
    "unknown region": (
        lambda run: calibrate(run, regions=["Atlantis"]),
        "'Atlantis' is not a region of the split val; it has Sample",
    ),
    "target": (
        lambda run: calibrate(run, 1.0),
        "target_precision is 1.0; expected a number between 0 and 1",
    ),
    "tta": (
        lambda run: calibrate(run, tta="most"),
        "predictor settings: tta Input should be 'none', 'minimal', 'standard' or 'full'",
    ),
    "scale": (lambda run: calibrate(run, scales=(0.3,)), "scale 0.3 must be in (0, 1]"),
    "prevalence": (
        lambda run: calibrate(run, prevalence=0.9),
        "prevalence is 0.9; expected a share of RTS pixels above 0",
    ),
    "compared tta": (lambda run: compare_tta(run, ["most"]), "TTA setting 'most' is not known"),
    "other settings": (
        lambda run: infer(run, "anywhere", run.parent / "map", tta="full"),
        "the calibration was made with other predictor settings (tta none then, full now)",
    ),
}


def assert_refused(call, run, says):
    "A call on a run fails with one line."
    with pytest.raises(RTSError) as refused:
        call(run)
    assert says in str(refused.value), refused.value
    assert "\n" not in str(refused.value), refused.value


@pytest.mark.parametrize("spoil, call, says", SPOILED_RUNS.values(), ids=SPOILED_RUNS)
def test_spoiled_run_is_refused_in_one_line(run, spoil, call, says):
    spoil(run)
    assert_refused(call, run, says)


@pytest.mark.parametrize("call, says", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_argument_is_refused_in_one_line(run, call, says):
    assert_refused(call, run, says)


def test_noise_floor_of_an_unfinished_run_reaches_the_next_preflight(run, monkeypatch):
    remove(run, "metrics.json")
    monkeypatch.setenv("RTS_RUNS", str(run.parent.parent))
    cfg = load_config("configs/test.yaml")
    assert noise_floor(run)["state"] == "not measured"
    assert "3 stored validations, 4 are needed" in noise_check(cfg).found

    shutil.copy(run / "validations" / "epoch-0003.npz", run / "validations" / "epoch-0004.npz")
    found = noise_floor(run)
    assert found["std"] > 0
    proposed = found["early_stopping_min_delta"]
    says = found["reason"] if proposed is None else f"proposes {proposed:.4f}"
    assert says in noise_check(cfg).found
    other = load_config("configs/test.yaml", "loss.gamma=3")
    assert "not measured: min delta 0.005 is the guide's" in noise_check(other).found, "a floor is of its config"


@pytest.mark.long
def test_runs_of_different_configs_are_compared_on_validation_alone(run, tmp_path):
    final_evaluation(run)
    other = Path(shutil.copytree(run, run.parent / "seed-43", ignore=shutil.ignore_patterns(".lock")))
    config, out = other / "config.yaml", tmp_path / "out.ipynb"
    of_seed_43 = config.read_text(encoding="utf-8").replace("seed: 42", "seed: 43")

    config.write_text(of_seed_43.replace("epochs: 3", "epochs: 4"), encoding="utf-8")
    done = papermill("50_report", out, runs=run.parent / "seed-*")
    assert done.returncode == 0, done.stderr[-2000:]
    text = out.read_text(encoding="utf-8")
    assert "no table of test figures" in text and "is of another config than" in text
    assert "train.epochs=4" in text, "what differs stands in the comparison"
    assert "+0.000" in text, "the same scores gain nothing"

    config.write_text(of_seed_43, encoding="utf-8")
    done = papermill("50_report", out, runs=run.parent / "seed-*")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "seed 43" in out.read_text(encoding="utf-8")
    assert " ± 0.000" in out.read_text(encoding="utf-8")


def test_figures_of_a_threshold_are_of_that_very_threshold(run):
    "Objects, and the pixels of a region, as counting every tile by hand at the chosen threshold gives them."
    calibration = calibrate(run)
    scores = saved_scores(run)[1]
    entry = calibration["thresholds"]["200"]
    cfg = load_config(run / "config.yaml")
    root, tiles = split_tiles(cfg, run, "val")
    predictor, data = Predictor.from_dir(run, **calibration["predictor"]), EvalTiles(root, tiles, cfg.data)
    matches, pixels = [], {}
    places = [counted.pieces.ground for counted in scores.objects.tiles]
    for region, item, ground in zip(tiles["RegionName"], data, places, strict=True):
        logits, label = predictor.tiles(item["image"][None])[0, 0], item["label"][0]
        flagged = logits >= entry["logit"]
        certain = torch.where(flagged, torch.sigmoid(logits.double()), 0.0)  # float64: no two scores are one
        found = match_objects(certain, label, 1e-9, 0.3, entry["min_area_m2"], (3 * ground) ** 2)
        is_found = found.tp > 0  # all labels of a tile of the sample are one slump
        matches.append((is_found, found.fp, found.fn > 0 and not is_found))
        hit, all_flagged = pixels.get(region, (0, 0))
        flagged &= label != 255
        pixels[region] = hit + int((flagged & (label == 1)).sum()), all_flagged + int(flagged.sum())
    found = scores.objects.scores(entry["logit"], 0.3, min_area_m2=entry["min_area_m2"])
    assert [found.tp, found.fp, found.fn] == np.sum(matches, 0).tolist()
    for region, (hit, all_flagged) in pixels.items():
        part = scores.objects.by_region()[region]
        exact = part.pixel_interval(entry["logit"], n=20)["precision"].value
        assert exact == pytest.approx(hit / all_flagged if all_flagged else np.nan, nan_ok=True)


def detections_of_tile(scores, calibration, number):
    "Pixels and expected precision of a tile's detections at the operating point, as calibration counted them."
    entry = calibration["thresholds"][str(calibration["operating_ratio"])]
    tile, grid = scores.objects.tiles[number], scores.objects.grid
    area_m2 = tile.rows.pixels * (grid.pixel_size * tile.pieces.ground) ** 2
    at = np.abs(grid.logits - entry["logit"]).argmin()
    chosen = (tile.rows.threshold == at) & (area_m2 >= entry["min_area_m2"])
    expected = expected_precision(calibration["object_scores"], tile.rows.score[chosen], area_m2[chosen])
    return tile.rows.pixels[chosen], area_m2[chosen], expected[:, 0]


def test_a_map_shows_the_detections_that_calibration_counted(run, tmp_path):
    "A tile mapped as a scene: the same objects, of the same area, with the share of such that are slumps."
    calibration = calibrate(run, 0.05, precision_of="objects")
    curve = dict(coefficients=[-1.0, 0.7, 0.3], low=[[-2.0, 0.7, 0.3]], high=[[0.0, 0.7, 0.3]])
    calibration["object_scores"] = curve
    entry = calibration["thresholds"]["200"]
    entry["logit"] = 0.0  # a grid threshold with detections
    entry["threshold"] = 0.5
    write_json(run / "calibration.json", calibration)
    scores = saved_scores(run)[1]
    root, tiles = split_tiles(load_config(run / "config.yaml"), run, "val")
    of_tile = [detections_of_tile(scores, calibration, number) for number in range(len(tiles))]
    number = int(np.argmax([len(pixels) for pixels, *_ in of_tile]))
    pixels, area_m2, expected = of_tile[number]
    log = infer(run, tile_path(root, "rgb", tiles["Tile_id"].iloc[number]), tmp_path / "map")
    slumps = gpd.read_parquet(tmp_path / "map" / "rts.parquet")
    assert len(pixels) > 1, "nothing to compare"
    assert log["min_area_m2"] == entry["min_area_m2"]
    np.testing.assert_allclose(np.sort(slumps["area_m2"]), np.sort(area_m2), rtol=2e-3)
    np.testing.assert_allclose(np.sort(slumps["expected_precision"]), np.sort(expected), atol=2e-3)
    assert (slumps["expected_precision_low"] <= slumps["expected_precision"]).all()


def test_another_smallest_area_is_a_caveat_everywhere(run, tmp_path):
    calibration = calibrate(run)
    scene = Path(resolve(load_config(run / "config.yaml").data.root)) / "scenes" / "scene_0.tif"
    log = infer(run, scene, tmp_path / "map", min_area_m2=50)
    said = "detections of 50 m² or more are shown, the threshold was calibrated with 100 m²"
    assert calibration["thresholds"]["200"]["min_area_m2"] == 100
    assert any(said in warning for warning in log["warnings"])
    with rasterio.open(next((tmp_path / "map").glob("*_probability.tif"))) as raster:
        assert said in raster.tags()["CAVEATS"]
    assert not any("were calibrated with" in warning for warning in infer(run, scene, tmp_path / "as")["warnings"])


def test_a_smallest_area_below_a_pixel_is_refused(quick):
    cfg = load_config(quick / "config.yaml")
    save_config(override_config(cfg, "calibration.min_areas_m2=[5,300]"), quick / "config.yaml")
    with pytest.raises(ConfigError, match="begins at 5 m², a pixel is 9.* m² on the ground; begin at several pixels"):
        calibrate(quick)
    save_config(cfg, quick / "config.yaml")
