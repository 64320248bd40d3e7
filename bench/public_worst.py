"""The public images on which folds lose most IoU: `python bench/public_worst.py "runs/public/seed-42-fold-*" OUT_DIR`.

Each image is predicted whole by the fold that left it out, at the threshold at which this fold flags as many pixels of
its tiles as their labels hold. An image costs the pooled IoU what is flagged or labelled there and not both. Writes
`worst.csv`, all images by that, and `worst.png`, the first ten with outlines of label and model.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from rts_nb.core.jobs import progress
from rts_nb.scores.objects import label_objects
from rts_nb.suspects.ranking import balanced_logit, judge_of, judging_runs
from rts_nb.tiles.layout import IGNORE
from rts_nb.tiles.public import find_public_images, image_of_tiles, read_public_image, refuse_leaking_import


def found_and_false(flagged: np.ndarray, truth: np.ndarray) -> dict[str, int]:
    "Objects of the label, those that the model touches, and objects of the model that touch none of the label."
    (labelled, n), (predicted, m) = label_objects(truth == 1), label_objects(flagged)
    touched = len(set(np.unique(labelled[flagged])) - {0})
    free = m - len(set(np.unique(predicted[truth == 1])) - {0})
    return dict(slumps=n, touched=touched, false=free)


def image_rows(judge) -> list[dict]:
    "Of each image that a judge has not seen: what it costs, and its pixels."
    folder, at, rows = find_public_images(), balanced_logit(judge), []
    for name in progress(sorted(set(image_of_tiles(judge.tiles))), judge.run.name, unit="image"):
        rgb, truth = read_public_image(folder, folder / "images" / f"{name}.jpg")
        truth = np.where(rgb.any(0), truth, IGNORE)
        flagged = (judge.predictor.array(rgb) >= at) & (truth != IGNORE)
        both, either = (flagged & (truth == 1)).sum(), (flagged | (truth == 1)).sum()
        lost = dict(lost=int(either - both), missed=int(((truth == 1) & ~flagged).sum()), iou=both / max(either, 1))
        rows.append(
            dict(image=name, fold=judge.cfg.split.fold) | lost | found_and_false(flagged, truth) | dict(flagged=flagged)
        )
    return rows


def show_worst(rows: list[dict]) -> plt.Figure:
    "Images with the outlines of the label, white, and of the model, orange."
    folder = find_public_images()
    fig, axes = plt.subplots(2, 5, figsize=(12, 5), dpi=110, layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=False):
        rgb, truth = read_public_image(folder, folder / "images" / f"{row['image']}.jpg")
        ax.imshow(np.moveaxis(rgb, 0, -1))
        for mask, color in ((truth == 1, "white"), (row["flagged"], "tab:orange")):
            if mask.any():
                ax.contour(mask, [0.5], colors=color, linewidths=1)
        ax.set_title(f"{row['image']}: IoU {row['iou']:.2f}\n{row['lost']} px lost, {row['missed']} missed", fontsize=8)
        ax.set_axis_off()
    fig.suptitle("The ten images that cost most IoU; label white, model orange", fontsize=10)
    return fig


def main(args) -> None:
    judges = [judge_of(run, tta=args.tta) for run in judging_runs(args.runs)]
    refuse_leaking_import(judges[0].root)
    rows = sorted((row for judge in judges for row in image_rows(judge)), key=lambda row: -row["lost"])
    args.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows).drop(columns="flagged").round(3)
    table.to_csv(args.out / "worst.csv", index=False)
    show_worst(rows[:10]).savefig(args.out / "worst.png")
    print(table.head(10).to_string(index=False))
    share = table["lost"].head(10).sum() / table["lost"].sum()
    print(f"{len(table)} images; the ten worst have {share:.0%} of all pixels that are lost")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", help='the folds of a config, as "runs/public/seed-42-fold-*"')
    parser.add_argument("out", type=Path)
    parser.add_argument("--tta", default="", help="none, minimal, standard or full; default: as the runs say")
    main(parser.parse_args())
