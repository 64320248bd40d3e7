"""What views of an image give on the public images, without training: `bench/public_views.py RUNS OUT_DIR VIEW …`.

RUNS are the folds of a config, as "runs/public/seed-42-fold-*". A VIEW is predict's keys, as "tta=none scales=1,0.5" or
"tta=none tile_size=320 overlap=64"; the first is what the others are compared with. Each image is predicted whole by
the fold that left it out; differences are paired over blocks, as bench/levers.py makes them. What is chosen here was
chosen on these folds.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from levers import count, figures, paired, read_images, summed

from rts_nb.core.files import show_path
from rts_nb.core.jobs import progress
from rts_nb.core.section import parse_options
from rts_nb.predict.predictor import Predictor
from rts_nb.suspects.ranking import judge_of, judging_runs
from rts_nb.tiles.public import image_of_tiles, refuse_leaking_import


def settings_of(view: str) -> dict:
    "Arguments of Predictor.from_dir from the text of a view."
    given = dict(pair.split("=", 1) for pair in view.split())
    scales = given.pop("scales", "")
    settings: dict = parse_options(" ".join(f"{key}={value}" for key, value in given.items()))
    return settings | (dict(scales=tuple(float(scale) for scale in scales.split(","))) if scales else {})


def file_of_view(out: Path, view: str, fold: int) -> Path:
    "Where the counts of a view on a fold are kept."
    return out / f"{view.replace(' ', '_').replace('=', '-')}-{fold}.npz"


def score_view(judge, view: str, path: Path) -> None:
    "Counts pixels and objects of all images that a judge has not seen, by block."
    predictor = Predictor.from_dir(judge.run, **settings_of(view))
    image_of = image_of_tiles(judge.tiles)
    blocks = dict(zip(image_of, judge.tiles["block"], strict=True))
    images = read_images(sorted(blocks))
    logits = {name: predictor.array(images[name][0]) for name in progress(images, f"{judge.run.name}, {view}")}
    np.savez_compressed(path, **count(logits, images, blocks))


def table_of(out: Path, views: list[str], folds: list[int]) -> pd.DataFrame:
    "Figures of every view, and their paired differences to those of the first."
    by_view = {view: summed([file_of_view(out, view, fold) for fold in folds]) for view in views}
    rows = {}
    for view, counts in by_view.items():
        found = figures(counts["pixels"].sum(0), counts["objects"].sum(0))
        gains = paired(counts, by_view[views[0]])
        rows[view] = {
            name: f"{value:.3f} ({gains[name][0]:+.3f}, {gains[name][1]:+.3f} to {gains[name][2]:+.3f})"
            for name, value in found.items()
        }
    return pd.DataFrame(rows).T


def main(args) -> None:
    judges = [judge_of(run) for run in judging_runs(args.runs)]
    refuse_leaking_import(judges[0].root)
    args.out.mkdir(parents=True, exist_ok=True)
    folds = [judge.cfg.split.fold for judge in judges]
    for view in args.views:
        for judge, fold in zip(judges, folds, strict=True):
            path = file_of_view(args.out, view, fold)
            if not path.exists():
                score_view(judge, view, path)
    print(f"{len(judges)} folds of {show_path(judges[0].run.parent)}, whole images of the fold left out, chosen here")
    print(table_of(args.out, args.views, folds).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", help='the folds of a config, as "runs/public/seed-42-fold-*"')
    parser.add_argument("out", type=Path)
    parser.add_argument("views", nargs="+", help='such as "tta=none scales=1,0.5"')
    main(parser.parse_args())
