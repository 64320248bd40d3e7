"""Calibration and the report of seeds as their users run them: the executed notebook, looks that nothing resets, one line for bad input."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rts_nb.calibrate import calibrate, calibrated_run
from rts_nb.calibration.looks import final_evaluation, looks_of
from rts_nb.calibration.noise import compare_tta, noise_floor
from rts_nb.calibration.thresholds import load_calibration
from rts_nb.core.files import RTSError, write_json
from rts_nb.infer import infer
from rts_nb.training.loop import clear_run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path):
    "The calibrated sample run, copied to a folder of runs of its own, without looks and scores."
    return Path(
        shutil.copytree(
            calibrated_run(),
            tmp_path / "runs" / "test" / "seed-42",
            ignore=shutil.ignore_patterns(".lock", "test_looks.json", "mlflow.json", "scores", "expected.json"),
        )
    )


def papermill(notebook, out, *args, **env):
    return subprocess.run(
        ["papermill", f"nbs/{notebook}.ipynb", str(out), *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | env,
    )


def test_report_of_a_calibration(run, tmp_path):
    "Twice: the second reuses the scores, says so, shows the look that was taken; not even a lost tracking store makes it forget."
    texts = []
    for k in range(2):
        done = papermill(
            "30_calibrate",
            tmp_path / f"{k}.ipynb",
            "-p",
            "run_dir",
            str(run),
            "-p",
            "compare",
            "none standard",
            "-p",
            "regions",
            "all",
            RTS_RUNS=str(run.parent.parent),
        )
        assert done.returncode == 0, done.stderr[-2000:]
        cells = json.loads((tmp_path / f"{k}.ipynb").read_text())["cells"]
        first = next(i for i, c in enumerate(cells) if "".join(c["source"]).startswith("## Run"))
        texts.append(json.dumps([c.get("outputs", []) for c in cells[first:]]))
        for lost in run.parent.parent.glob("mlflow.db*"):
            lost.unlink()
    for text in texts:
        for says in (
            "Test-Realistic 1:1000",
            "look 1 of 1",
            "negative log-likelihood",
            "false detections per 1,000 km",
            "promise holds",
            "own threshold",
            "early_stopping.min_delta",
        ):
            assert says in text, says
        assert text.count("image/png") == 4
    assert "val, TTA standard: scores of" not in texts[0] and "val, TTA standard: scores of" in texts[1], (
        "a repeated calibration reuses the scores"
    )
    assert json.loads((run / "noise_floor.json").read_text())["early_stopping_min_delta"] > 0


def test_looks_cannot_be_reset(run):
    "Neither by looking again, nor by calibrating again, nor by starting the training over; another calibration is another look."
    assert final_evaluation(run)["looks"] == final_evaluation(run)["looks"] == 1
    shutil.rmtree(run / "scores")
    calibrate(run)
    assert final_evaluation(run)["looks"] == 1, "the same calibration, found again"
    calibrate(run, 0.3)
    assert final_evaluation(run)["looks"] == 2
    clear_run(run)  # what train(fresh=True) does first
    assert len(looks_of(run)) == 2 and not (run / "model.safetensors").exists()


def test_calibration_json_has_what_the_specification_names(run):
    calibration = calibrate(run, precision_of="objects", tta="minimal")
    assert calibration == load_calibration(run)
    assert {"temperature", "operating_ratio", "thresholds", "dataset_version", "predictor", "unit", "n_units"} <= set(
        calibration
    )
    assert set(calibration["thresholds"]) == {"200", "500", "1000"} and set(calibration["predictor"]) == {
        "scales",
        "tta",
        "merge",
        "fusion",
    }
    for e in calibration["thresholds"].values():
        assert {
            "threshold",
            "reachable",
            "weighted",
            *(f"{k}{b}" for k in ("precision", "recall") for b in ("", "_low", "_high")),
        } <= set(e)
        assert (
            e["precision_low"] <= e["precision"] <= e["precision_high"]
            and e["recall_low"] <= e["recall"] <= e["recall_high"]
        )


def without(run, name):
    (run / name).unlink()


def of_version(run, version):
    write_json(
        run / "normalization_stats.json",
        json.loads((run / "normalization_stats.json").read_text()) | dict(dataset_version=version),
    )


@pytest.mark.parametrize(
    "spoil, call, says",
    [
        (lambda r: without(r, "metrics.json"), calibrate, "has no metrics.json; it is not a finished run"),
        (lambda r: without(r, "normalization_stats.json"), calibrate, "has no normalization_stats.json"),
        (lambda r: without(r, "calibration.json"), final_evaluation, "has no calibration.json; calibrate it"),
        (lambda r: of_version(r, "1.0"), calibrate, "is of dataset version 2.0, the statistics of"),
        (
            lambda r: None,
            lambda r: calibrate(r, regions=["Atlantis"]),
            "'Atlantis' is not a region of the split val; it has Sample",
        ),
        (lambda r: None, lambda r: calibrate(r, 1.0), "target_precision is 1.0; expected a number between 0 and 1"),
        (
            lambda r: None,
            lambda r: calibrate(r, tta="most"),
            "predictor settings: tta Input should be 'none', 'minimal', 'standard' or 'full'",
        ),
        (lambda r: None, lambda r: calibrate(r, scales=(0.3,)), "scale 0.3 must be in (0, 1]"),
        (
            lambda r: None,
            lambda r: calibrate(r, prevalence=0.9),
            "prevalence is 0.9; expected a share of RTS pixels above 0",
        ),
        (lambda r: None, lambda r: compare_tta(r, ["most"]), "TTA setting 'most' is not known"),
        (
            lambda r: None,
            lambda r: infer(r, "anywhere", r.parent / "map", tta="full"),
            "the calibration was made with other predictor settings (tta none then, full now)",
        ),
        (
            lambda r: shutil.rmtree(r / "checkpoints") or without(r, "metrics.json"),
            noise_floor,
            "has no checkpoint yet; expected checkpoints/last.pt",
        ),
    ],
    ids=[
        "no metrics",
        "no statistics",
        "not calibrated",
        "another version",
        "unknown region",
        "target",
        "tta",
        "scale",
        "prevalence",
        "compared tta",
        "other settings",
        "no checkpoint",
    ],
)
def test_bad_input_is_one_line(run, spoil, call, says):
    spoil(run)
    with pytest.raises(RTSError) as e:
        call(run)
    assert says in str(e.value) and "\n" not in str(e.value), e.value


def test_noise_floor_of_an_unfinished_run_reaches_the_next_preflight(run):
    from rts_nb.settings.config import load_config
    from rts_nb.training.preflight import noise_check

    (run / "metrics.json").unlink()
    found = noise_floor(run)
    assert found["checkpoint"].startswith("best-")
    for best in (run / "checkpoints").glob("best-*"):
        best.unlink()
    assert noise_floor(run)["checkpoint"] == "last.pt", "the average in a real last.pt serves too"
    found = json.loads((run / "noise_floor.json").read_text())
    old, os.environ["RTS_RUNS"] = os.environ["RTS_RUNS"], str(run.parent.parent)
    try:
        row = noise_check(load_config("configs/test.yaml"))
    finally:
        os.environ["RTS_RUNS"] = old
    assert f"proposes {found['early_stopping_min_delta']:.4f}" in row[2]


def test_runs_of_different_configs_are_refused_in_one_line(run, tmp_path):
    final_evaluation(run)
    other = Path(shutil.copytree(run, run.parent / "seed-43", ignore=shutil.ignore_patterns(".lock")))
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("seed: 42", "seed: 43").replace("epochs: 3", "epochs: 4"))
    done = papermill("50_report", tmp_path / "out.ipynb", "-p", "runs", str(run.parent / "seed-*"))
    assert done.returncode != 0 and "is of another config than" in done.stderr.strip().splitlines()[-1], done.stderr[
        -600:
    ]
    (other / "config.yaml").write_text(text.replace("seed: 42", "seed: 43"))
    done = papermill("50_report", tmp_path / "out.ipynb", "-p", "runs", str(run.parent / "seed-*"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "seed 43" in (tmp_path / "out.ipynb").read_text() and " ± 0.000" in (tmp_path / "out.ipynb").read_text()
