"""A column of painted scenes, a calibrated model of random weights to map them with, and the command that does: what tests of inference stand on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from safetensors.torch import save_file

from rts_nb.core.files import digest, write_json
from rts_nb.networks.models import build_model
from rts_nb.predict.predictor import Predictor
from rts_nb.settings.config import load_config, save_config
from rts_nb.tiles.layout import CRS
from rts_nb.tiles.sample import paint, palette_of

ROOT = Path(__file__).resolve().parent.parent
SIDE = 300


def outputs(folder):
    return {f.name: digest(f) for f in sorted(folder.iterdir()) if f.suffix in (".tif", ".gpkg", ".parquet", ".vrt")}


def command(*args, **how):
    "`python -m rts_nb.infer`, started."
    return subprocess.Popen(
        [sys.executable, "-m", "rts_nb.infer", *map(str, args)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **how,
    )


def make_place(place, rows, slumps):
    "Fills a folder with scenes/, a column that touch each other, `rows` sides high each, and model/ with random weights and a threshold that a fifth of the pixels reach."
    rng, top = np.random.default_rng(5), 0
    (place / "scenes").mkdir()
    (place / "model").mkdir()
    rgb, *_ = paint(rng, sum(rows) * SIDE, SIDE, palette_of(rng), slumps=slumps)
    for k, n in enumerate(rows):
        with rasterio.open(
            place / "scenes" / f"s{k}.tif",
            "w",
            driver="GTiff",
            count=3,
            height=n * SIDE,
            width=SIDE,
            dtype="uint8",
            crs=CRS,
            transform=from_origin(-2e6, -1e5 - 3 * top, 3, 3),
        ) as f:
            f.write(rgb[:, top : top + n * SIDE])
        top += n * SIDE
    cfg = load_config("configs/sample.yaml", "model.encoder_weights=null")
    torch.manual_seed(1)
    save_file(
        {k: v.contiguous() for k, v in build_model(cfg.model, None).state_dict().items()},
        place / "model" / "model.safetensors",
    )
    save_config(cfg, place / "model" / "config.yaml")
    write_json(
        place / "model" / "normalization_stats.json",
        dict(dataset_version="2.0", rgb=dict(mean=[90.0, 80, 60], std=[30.0, 30, 30]), extra=dict(mean={}, std={})),
    )
    logits = np.concatenate([l for _, l, _ in Predictor.from_dir(place / "model").scene(place / "scenes" / "s0.tif")])
    point = dict(
        threshold=float(1 / (1 + np.exp(-np.quantile(logits, 0.8)))),
        precision=0.4,
        precision_low=0.3,
        precision_high=0.5,
        recall=0.2,
        recall_low=0.1,
        recall_high=0.3,
        reachable=False,
        weighted=True,
    )
    write_json(
        place / "model" / "calibration.json",
        dict(
            temperature=1.0,
            operating_ratio=200,
            thresholds={"200": point},
            target_precision=0.8,
            dataset_version="2.0",
            weights="",
            precision_of="pixels",
            field={},
            predictor=dict(scales=[1.0], tta="none", merge="smooth", fusion="max"),
        ),
    )
    return place
