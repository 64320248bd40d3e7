"""What a calibration costs beyond the forward passes it needs: `python bench/calibrate.py [RUN_DIR | small]`.

The whole report (scores of validation and test tiles, noise floor, temperature, thresholds with intervals, regions, field, figures and tables) on a copy of a run without kept scores, over the seconds
in which the network worked. Without a run: UNet++/B5 with random weights, its last bias moved to where a trained network has its background, on generated tiles of 512 px (`small`: the sample's network
and 128 px, where the fixed costs weigh most). Nothing else should run meanwhile; ten minutes on two CPU cores, `small` half a minute.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from rts_nb.calibrate import calibrate
from rts_nb.calibration.figures import show_expected, show_reliability, show_thresholds
from rts_nb.calibration.looks import final_evaluation
from rts_nb.calibration.noise import noise_floor
from rts_nb.calibration.tables import calibration_region_table, error_table, expected_table, look_table, threshold_table
from rts_nb.core.files import write_json
from rts_nb.core.jobs import seed_everything
from rts_nb.data import prepare
from rts_nb.networks.models import build_model, save_weights
from rts_nb.settings.config import load_config, save_config
from rts_nb.tiles.sample import make_sample
from rts_nb.tiles.statistics import load_stats

LIMIT = 1.10


def untrained(folder, config, size, tiles):
    "A run directory that looks finished: random weights, background at logit -5."
    root = make_sample(
        folder / "data", tile_size=size, n_regions=6, n_positive=tiles // 3, n_negative=2 * tiles // 3, n_scenes=0
    )
    cfg = load_config(
        f"configs/{config}.yaml",
        f"model.encoder_weights=null data.root={root} data.tile_size={size} loader.num_workers=1 predict.batch_size=4 predict.overlap={size // 2}",
    )
    run = folder / "runs" / "bench" / "seed-42"
    run.mkdir(parents=True)
    seed_everything(42)
    model = build_model(cfg.model, None)
    with torch.no_grad():
        [m for m in model.segmentation_head.modules() if isinstance(m, torch.nn.Conv2d)][-1].bias.fill_(-5)
    save_weights(model, run / "model.safetensors")
    save_config(cfg, run / "config.yaml")
    write_json(run / "normalization_stats.json", load_stats(Path(prepare(cfg.data)) / "normalization_stats.json"))
    write_json(run / "metrics.json", dict(best_epoch=0))
    return run


def report(run):
    "Everything that the report computes, with one TTA setting."
    calibration = calibrate(run, regions="all")
    noise_floor(run)
    for figure in (show_reliability, show_thresholds, show_expected):
        plt.close(figure(run))
    look = final_evaluation(run)
    return [
        calibration_region_table(run),
        threshold_table(calibration),
        error_table(calibration),
        expected_table(calibration),
        look_table(look),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        folder, what = Path(folder), (sys.argv[1:] or [""])[0]
        if what in ("", "small"):
            run = untrained(folder, *(("sample", 128, 90) if what else ("baseline", 512, 360)))
        else:
            run = Path(
                shutil.copytree(
                    what,
                    folder / "runs" / "bench" / "seed-42",
                    ignore=shutil.ignore_patterns("scores", "test_looks.json", "mlflow.json", ".lock"),
                )
            )
        started = time.perf_counter()
        report(run)
        whole = time.perf_counter() - started
        passes = [json.loads(f.read_text()) for f in (run / "scores").glob("*.json")]
    network, tiles = sum(p["network_seconds"] for p in passes), sum(p["tiles"] for p in passes)
    scoring = sum(p["seconds"] for p in passes)
    ratio = whole / network
    print(
        f"{tiles} tiles in {len(passes)} passes: network {network:.1f} s, passes {scoring:.1f} s, whole report {whole:.1f} s; {ratio:.2f} x the forward passes, at most {LIMIT}: {'met' if ratio <= LIMIT else 'MISSED'}"
    )
