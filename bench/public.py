"""Scores a run on the held-back public images as a map would see them, whole: `python bench/public.py runs/public/seed-42 [--split val] [--tta full]`.

A tile of 160 pixels sees no further than its border, an image of 290 does; so figures on tiles are lower than those of a recipe that scores whole images. This
predicts each image of a split as a scene, in overlapping windows, and prints PR-AUC and IoU over all of its pixels, with a 95 % interval over images.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from rts_nb.core.files import resolve
from rts_nb.core.jobs import progress
from rts_nb.predict.predictor import Predictor
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.settings.config import load_config
from rts_nb.tiles.layout import load_splits
from rts_nb.tiles.public import find_public_images, public_region, read_public_image


def whole(predictor, rgb, folder):
    "Logits (H, W) of an image."
    path, out = f"{folder}/image.tif", np.zeros(rgb.shape[1:], np.float32)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=rgb.shape[1],
        width=rgb.shape[2],
        dtype="uint8",
        crs="EPSG:3413",
        transform=from_origin(0, -2e6, 4, 4),
    ) as f:
        f.write(rgb)
    for window, logits, _ in predictor.scene(path):
        out[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width] = logits
    return out


def main(args):
    run, folder = Path(resolve(args.run_dir)), find_public_images()
    cfg, predictor = (
        load_config(run / "config.yaml"),
        Predictor.from_dir(run, **({"tta": args.tta} if args.tta else {})),
    )
    held, histogram = set(load_splits(cfg.data.root)[args.split]), ScoreHistogram()
    images = [i for i in sorted((folder / "images").glob("*.jpg")) if public_region(i.stem) in held]
    with tempfile.TemporaryDirectory() as there:
        for image in progress(images, "images"):
            rgb, truth = read_public_image(folder, image)
            histogram.add(
                torch.from_numpy(whole(predictor, rgb, there)), torch.from_numpy(truth), dict(tile_id=image.stem)
            )
    at, sure = histogram.at_threshold(0.5), histogram.interval(lambda h: h.pr_auc().value, n=500)
    print(
        f"{len(images)} whole images of {args.split}, TTA {predictor.settings.tta}: PR-AUC {sure.value:.3f} ({sure.low:.3f} … {sure.high:.3f} over {sure.n_units} {sure.unit}s), IoU at 0.5 {at.iou:.3f}, precision {at.precision:.3f}, recall {at.recall:.3f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir")
    parser.add_argument(
        "--split",
        default="val",
        choices=("train", "val"),
        help="the test regions are looked at by 30_calibrate alone, which counts the looks",
    )
    parser.add_argument("--tta", default="", help="none, minimal, standard or full; default: as the run says")
    main(parser.parse_args())
