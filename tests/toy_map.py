"""A column of painted scenes, a calibrated model of random weights to map them with, and the command that does: what tests of inference stand on."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from safetensors.torch import save_file

from rts_nb.config import load_config, save_config
from rts_nb.data import CRS, paint, palette_of, write_json
from rts_nb.infer import digest
from rts_nb.models import build_model
from rts_nb.predict import Predictor

ROOT = Path(__file__).resolve().parent.parent
SIDE = 300


def outputs(folder): return {f.name: digest(f) for f in sorted(folder.iterdir()) if f.suffix in ('.tif', '.gpkg', '.parquet', '.vrt')}


def command(*args, **how):
    "`python -m rts_nb.infer`, started."
    return subprocess.Popen([sys.executable, '-m', 'rts_nb.infer', *map(str, args)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


def make_place(place, rows, slumps):
    "Fills a folder with scenes/, a column that touch each other, `rows` sides high each, and model/ with random weights and a threshold that a fifth of the pixels reach."
    rng, top = np.random.default_rng(5), 0
    (place/'scenes').mkdir(); (place/'model').mkdir()
    rgb, *_ = paint(rng, sum(rows)*SIDE, SIDE, palette_of(rng), slumps=slumps)
    for k, n in enumerate(rows):
        with rasterio.open(place/'scenes'/f's{k}.tif', 'w', driver='GTiff', count=3, height=n*SIDE, width=SIDE, dtype='uint8', crs=CRS, transform=from_origin(-2e6, -1e5-3*top, 3, 3)) as f:
            f.write(rgb[:, top:top+n*SIDE])
        top += n*SIDE
    cfg = load_config('configs/sample.yaml', 'model.encoder_weights=null')
    torch.manual_seed(1)
    save_file({k: v.contiguous() for k, v in build_model(cfg.model, None).state_dict().items()}, place/'model'/'model.safetensors')
    save_config(cfg, place/'model'/'config.yaml')
    write_json(place/'model'/'normalization_stats.json', dict(dataset_version='2.0', rgb=dict(mean=[90., 80, 60], std=[30., 30, 30]), extra=dict(mean={}, std={})))
    logits = np.concatenate([l for _, l, _ in Predictor.from_dir(place/'model').scene(place/'scenes'/'s0.tif')])
    point = dict(threshold=float(1/(1+np.exp(-np.quantile(logits, .8)))), precision=.4, precision_low=.3, precision_high=.5, recall=.2, recall_low=.1, recall_high=.3, reachable=False, weighted=True)
    write_json(place/'model'/'calibration.json', dict(temperature=1., operating_ratio=200, thresholds={'200': point}, target_precision=.8, dataset_version='2.0', weights='', precision_of='pixels', field={},
                                                      predictor=dict(scales=[1.], tta='none', merge='smooth', fusion='max')))
    return place
