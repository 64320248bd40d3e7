"""What a calibration costs beyond the forward passes it needs: `python bench/calibrate.py [RUN_DIR | small]`.

The whole report (scores of validation and test tiles, noise floor, temperature, thresholds with intervals, regions,
figures and tables) on a copy of a run without kept scores, over the seconds in which the network worked in all of its
passes; each of --rounds (5) has a copy of its own. Without a run: UNet++/B5 with random weights, its last bias moved to
where a trained network has its background, on generated tiles of 512 px, --tiles of them (120), a sixth of which is
read in each of three passes; `small` takes the sample's network and 128 px, where the fixed costs weigh most. Nothing
else should run meanwhile; a round takes three to four minutes on two CPU cores, of `small` half a minute.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from common import print_header, print_verdict, seconds, summarize

from rts_nb.calibrate import calibrate
from rts_nb.calibration.figures import show_expected, show_reliability, show_thresholds
from rts_nb.calibration.look_tables import look_table
from rts_nb.calibration.looks import final_evaluation
from rts_nb.calibration.noise import noise_floor
from rts_nb.calibration.tables import calibration_region_table, error_table, expected_table, threshold_table
from rts_nb.core.files import write_json
from rts_nb.core.jobs import seed_everything
from rts_nb.data import prepare
from rts_nb.networks.models import build_model, save_weights
from rts_nb.settings.config import load_config, save_config
from rts_nb.tiles.sample import make_sample
from rts_nb.tiles.statistics import load_stats

LIMIT = 1.10


def move_last_bias(model, logit):
    "Sets the bias of the last convolution."
    convolutions = [m for m in model.segmentation_head.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        convolutions[-1].bias.fill_(logit)


def untrained_run(folder, config, size, tiles):
    "A run directory that looks finished: random weights, background at logit -5."
    n_positive = tiles // 3
    n_negative = 2 * tiles // 3
    counts = dict(n_regions=6, n_positive=n_positive, n_negative=n_negative, n_scenes=0)
    root = make_sample(folder / "data", tile_size=size, **counts)
    overrides = [
        "model.encoder_weights=null",
        f"data.root={root}",
        f"data.tile_size={size}",
        "loader.num_workers=1",
        "predict.batch_size=4",
        f"predict.overlap={size // 2}",
    ]
    cfg = load_config(f"configs/{config}.yaml", " ".join(overrides))
    run = folder / "runs" / "bench" / "seed-42"
    run.mkdir(parents=True)
    seed_everything(42)
    model = build_model(cfg.model, None)
    move_last_bias(model, -5)
    save_weights(model, run / "model.safetensors")
    save_config(cfg, run / "config.yaml")
    write_json(run / "normalization_stats.json", load_stats(Path(prepare(cfg.data)) / "normalization_stats.json"))
    write_json(run / "metrics.json", dict(best_epoch=0))
    return run


def copied_run(folder, run_dir):
    "A copy of a run, without its scores and looks at the test set."
    left_out = shutil.ignore_patterns("scores", "test_looks.json", "mlflow.json", ".lock")
    return Path(shutil.copytree(run_dir, folder / "runs" / "bench" / "seed-42", ignore=left_out))


def report(run):
    "Everything that the report computes, with one TTA setting."
    calibration = calibrate(run, regions="all")
    noise_floor(run)
    for figure in (show_reliability, show_thresholds, show_expected):
        plt.close(figure(run))
    look = final_evaluation(run)
    calibration_region_table(run)
    for table in (threshold_table, error_table, expected_table):
        table(calibration)
    look_table(look)


def chosen_run(folder, what, tiles):
    "The run directory to copy: a given one, or one that is made below `folder`."
    if what == "small":
        return untrained_run(folder, "sample", 128, tiles)
    return Path(what) if what else untrained_run(folder, "baseline", 512, tiles)


def measured_report(folder, run_dir):
    "Seconds of a report on a copy of a run: of all of it, of the network, of the passes with reading; and tiles."
    run = copied_run(folder, run_dir)
    whole = seconds(report, run)
    passes = [json.loads(file.read_text(encoding="utf-8")) for file in (run / "scores").glob("*.json")]
    network, scoring, tiles = (sum(one[key] for one in passes) for key in ("network_seconds", "seconds", "tiles"))
    print(f"    {tiles} tiles in {len(passes)} passes: network {network:.1f} s, passes {scoring:.1f} s", flush=True)
    return whole, network, scoring, tiles


def main(args):
    print_header()
    with tempfile.TemporaryDirectory() as name:
        run_dir = chosen_run(Path(name), args.run, args.tiles)
        rounds = [measured_report(Path(name) / f"round-{k}", run_dir) for k in range(args.rounds)]
    network = "small network" if args.run == "small" else args.run or "B5"
    of = f"{network}, {rounds[0][-1]} tiles"
    against_network = summarize([(whole, network) for whole, network, *_ in rounds])
    against_passes = summarize([(whole, scoring) for whole, _, scoring, _ in rounds])
    print_verdict(f"calibration / network of all its passes, {of}", against_network, LIMIT, unit="s")
    print_verdict(f"calibration / passes, reading included, {of}", against_passes, None, unit="s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="", metavar="RUN_DIR | small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=120, help="to generate, of all splits")
    main(parser.parse_args())
