"""Scores a run on the held-back public images whole, as a map would see them: `python bench/public.py RUN_DIR`.

A tile of 160 pixels sees no further than its border, an image of 290 does; so figures on tiles are lower than those of
a recipe that scores whole images. This predicts each image of a split as a scene, in overlapping windows, and prints
PR-AUC and IoU over all of its pixels, with a 95 % interval over blocks, each of which is a group of overlapping images.
"""

import argparse
from pathlib import Path

import torch

from rts_nb.core.files import resolve
from rts_nb.core.jobs import progress
from rts_nb.predict.predictor import Predictor
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.settings.config import load_config
from rts_nb.tiles.layout import load_tiles
from rts_nb.tiles.public import find_public_images, image_of_tiles, read_public_image, refuse_leaking_import


def pr_auc(histogram):
    return histogram.pr_auc().value


def score_images(predictor, folder, images, block_of):
    "A histogram of the scores of all pixels, image by image; `block_of` has the block of each image by name."
    histogram = ScoreHistogram()
    for image in progress(images, "images"):
        rgb, truth = read_public_image(folder, image)
        logits = torch.from_numpy(predictor.array(rgb))
        histogram.add(logits, torch.from_numpy(truth), dict(tile_id=image.stem, block=block_of[image.stem]))
    return histogram


def main(args):
    run, folder = Path(resolve(args.run_dir)), find_public_images()
    cfg = load_config(run / "config.yaml")
    settings = {"tta": args.tta} if args.tta else {}
    predictor = Predictor.from_dir(run, **settings)
    refuse_leaking_import(cfg.data.root)
    tiles = load_tiles(cfg.data.root, cfg.data.block_km).query("split == @args.split")
    block_of = dict(zip(image_of_tiles(tiles), tiles["block"], strict=True))
    images = [path for path in sorted((folder / "images").glob("*.jpg")) if path.stem in block_of]
    histogram = score_images(predictor, folder, images, block_of)
    at_half = histogram.at_threshold(0.5)
    auc = histogram.interval(pr_auc, n=500)
    print(f"{len(images)} whole images of {args.split}, TTA {predictor.settings.tta}")
    print(f"PR-AUC {auc.value:.3f} ({auc.low:.3f} … {auc.high:.3f}", end=" ")
    print(f"over {auc.n_units} {auc.unit}s)")
    print(f"at 0.5: IoU {at_half.iou:.3f}, precision {at_half.precision:.3f}, recall {at_half.recall:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="such as runs/public/seed-42")
    split_help = "the test regions are looked at by 30_calibrate alone, which counts the looks"
    parser.add_argument("--split", default="val", choices=("train", "val"), help=split_help)
    parser.add_argument("--tta", default="", help="none, minimal, standard or full; default: as the run says")
    main(parser.parse_args())
