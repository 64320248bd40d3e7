"""Scores a run on the held-back public images whole, as a map would see them: `python bench/public.py RUN_DIR`.

A tile of 160 pixels sees no further than its border, an image of 290 does; so figures on tiles are lower than those of
a recipe that scores whole images. This predicts each image of a split as a scene, in overlapping windows, and prints
PR-AUC and IoU over all of its pixels, with a 95 % interval over blocks, each of which is a group of overlapping images.
Beside it stands the average precision of objects as COCO defines it, of all detections outlined at a low threshold and,
where the run is calibrated, of those that its map would deliver.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from rts_nb.calibration.passes import ground_km2
from rts_nb.calibration.thresholds import load_calibration, operating_point
from rts_nb.calibration.whole_scenes import image_sets, sets_account, sets_table
from rts_nb.core.files import RunError, resolve
from rts_nb.core.jobs import progress
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.views import check_settings
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.settings.config import load_config
from rts_nb.tiles.layout import load_tiles, pixel_size
from rts_nb.tiles.public import find_public_images, image_of_tiles, read_public_image, refuse_leaking_import


def pr_auc(histogram):
    return histogram.pr_auc().value


def operating_entry(run, predictor):
    "The operating point of the run's calibration; None, with the reason printed, where it has none for this predictor."
    try:
        calibration = load_calibration(run)
        check_settings(calibration, predictor.settings)
    except RunError as e:
        print(f"no delivered detections: {e}")
        return None
    return operating_point(calibration)


def score_images(predictor, folder, images, block_of, sets, pixel_m2):
    """A histogram of the scores of all pixels, image by image; `sets` of objects get each image too.

    `block_of` has the block of each image by name, `pixel_m2` is the area of a pixel."""
    histogram = ScoreHistogram()
    for image in progress(images, "images"):
        rgb, truth = read_public_image(folder, image)
        logits, block = predictor.array(rgb), block_of[image.stem]
        record = dict(tile_id=image.stem, block=block)
        histogram.add(torch.from_numpy(logits), torch.from_numpy(truth), record)
        for found in sets.values():
            found.add(logits, truth, pixel_m2, block=block)
    return histogram


def show_objects(sets):
    "Prints the average precision of each set of detections."
    print(sets_account(sets))
    with pd.option_context("display.width", 200, "display.max_columns", 9):
        print(sets_table(sets))


def main(args):
    run, folder = Path(resolve(args.run_dir)), find_public_images()
    cfg = load_config(run / "config.yaml")
    settings = {"tta": args.tta} if args.tta else {}
    predictor = Predictor.from_dir(run, **settings)
    refuse_leaking_import(cfg.data.root)
    tiles = load_tiles(cfg.data.root, cfg.data.block_km).query("split == @args.split")
    block_of = dict(zip(image_of_tiles(tiles), tiles["block"], strict=True))
    images = [path for path in sorted((folder / "images").glob("*.jpg")) if path.stem in block_of]
    smallest = cfg.calibration.min_areas_m2[0]  # where no calibration has chosen one
    sets = image_sets(operating_entry(run, predictor), smallest)
    pixel_m2 = 1e6 * ground_km2(tiles, pixel_size(cfg.data.root, tiles))  # as calibration counts areas
    histogram = score_images(predictor, folder, images, block_of, sets, pixel_m2)
    at_half = histogram.at_threshold(0.5)
    auc = histogram.interval(pr_auc, n=500)
    print(f"{len(images)} whole images of {args.split}, TTA {predictor.settings.tta}")
    print(f"PR-AUC {auc.value:.3f} ({auc.low:.3f} … {auc.high:.3f}", end=" ")
    print(f"over {auc.n_units} {auc.unit}s)")
    print(f"at 0.5: IoU {at_half.iou:.3f}, precision {at_half.precision:.3f}, recall {at_half.recall:.3f}")
    show_objects(sets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="such as runs/public/seed-42")
    split_help = "the test regions are looked at by 30_calibrate alone, which counts the looks"
    parser.add_argument("--split", default="val", choices=("train", "val"), help=split_help)
    parser.add_argument("--tta", default="", help="none, minimal, standard or full; default: as the run says")
    main(parser.parse_args())
