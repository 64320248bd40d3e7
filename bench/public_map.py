"""Maps the held-out public images and holds the map against its promise: `python bench/public_map.py RUN_DIR`.

The run (or ensemble) must be calibrated and its test look taken (`30_calibrate -p evaluate true`): this maps the same
images, those of the test regions, with the same threshold and smallest area. It writes into RUN_DIR/public:
`map.png` (every seventh image with its outlines), `curves.png` (precision and recall of the test tiles at all ratios),
and `results.md` (the table of docs/public.md, which it prints too); intervals are over blocks.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from rasterio.transform import from_origin

from rts_nb.calibration.ensembles import calibration_of
from rts_nb.calibration.passes import load_scores
from rts_nb.core.drawing import interval_text
from rts_nb.core.files import resolve
from rts_nb.infer import infer
from rts_nb.mapping.truth import COLOURS, TruthComparison, draw_against_truth, map_against_truth, truth_table
from rts_nb.scores.curves import pr_curve
from rts_nb.scores.histogram import binned_pixels
from rts_nb.settings.config import load_config
from rts_nb.tiles.layout import load_tiles, write_raster
from rts_nb.tiles.public import find_public_images, image_of_tiles, read_public_image

METRES = 4.0  # of a pixel
APART = 2000.0  # metres between the invented corners of two images; none is larger than 1200


def place(k: int):
    "The invented transform of the k-th image."
    row, column = divmod(k, 10)
    return from_origin(-1.5e6 + APART * column, -1.2e6 - APART * row, METRES, METRES)


def write_scenes(folder: Path, names: list[str]) -> None:
    "Writes the images as scenes, and their masks as truth/ beside them."
    source = find_public_images()
    for k, name in enumerate(names):
        rgb, truth = read_public_image(source, source / "images" / f"{name}.jpg")
        write_raster(folder / f"{name}.tif", rgb, place(k))
        write_raster(folder / "truth" / f"{name}.tif", truth[None].astype("u1"), place(k))


def window_of(compared: TruthComparison, scenes: Path, name: str) -> tuple[slice, slice]:
    "Rows and columns of a scene in the raster of all scenes."
    with rasterio.open(scenes / f"{name}.tif") as f:
        column, row = ~compared.truth.transform @ (f.transform.c, f.transform.f)
        height, width = f.shape
    row, column = round(row), round(column)
    return slice(row, row + height), slice(column, column + width)


def counts_by_block(compared: TruthComparison, scenes: Path, block_of: dict[str, int]) -> np.ndarray:
    "Hits, false detections and misses (blocks, 3)."
    blocks = sorted(set(block_of.values()))
    counts = np.zeros((len(blocks), 3), int)
    for name, block in block_of.items():
        window = window_of(compared, scenes, name)
        true, found = np.unique(compared.true[window]), np.unique(compared.found[window])
        missed, false = np.isin(true, compared.missed).sum(), np.isin(found, compared.false).sum()
        counts[blocks.index(block)] += np.isin(true, compared.hits[:, 1]).sum(), false, missed
    return counts


def share_of_hits(counts: np.ndarray, other: int, n: int = 2000) -> str:
    "The share of hits among hits and column `other`, with its 95 % interval over blocks."
    drawn = np.random.default_rng(42).integers(0, len(counts), (n, len(counts)))
    sums = counts[drawn].sum(1)
    shares = sums[:, 0] / np.maximum(sums[:, 0] + sums[:, other], 1)
    whole = counts.sum(0)
    low, high = np.quantile(shares, [0.025, 0.975])
    share = whole[0] / max(whole[0] + whole[other], 1)
    return interval_text(dict(share=share, share_ci_low=low, share_ci_high=high), "share")


def show_map(compared: TruthComparison, scenes: Path, names: list[str]):
    "Every seventh image, not chosen by what was found there."
    fig, axes = plt.subplots(3, 4, figsize=(9.5, 6.2), dpi=110, layout="constrained")
    for ax, name in zip(axes.ravel(), names[::7], strict=False):
        with rasterio.open(scenes / f"{name}.tif") as f:
            rgb = f.read()
        window = window_of(compared, scenes, name)
        ax.imshow(np.clip(rgb.transpose(1, 2, 0) * (230 / max(np.percentile(rgb, 99), 1)), 0, 255).astype("u1"))
        here = compared._replace(true=compared.true[window], found=compared.found[window])
        height, width = here.true.shape
        draw_against_truth(ax, here, (-0.5, width - 0.5, height - 0.5, -0.5))
        ax.set_title(name.removeprefix("train_"), fontsize=8)
        ax.axis("off")
    labels = (("slump, found", "white", "-"), ("slump, missed", "white", "--"))
    labels += (("detection, true", COLOURS["found"], "-"), ("detection, false", COLOURS["false"], "-"))
    handles = [plt.Line2D([], [], color=colour, linestyle=style, label=text) for text, colour, style in labels]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9, facecolor=".25", labelcolor="white")
    n, missed = compared.counts["slumps"], compared.counts["missed"]
    false, of = compared.counts["false"], compared.counts["detections"]
    fig.suptitle(
        f"{n - missed} of {n} slumps of the held-out images found; {false} of {of} detections are false", fontsize=11
    )
    return fig


def test_scores(run: Path):
    "The scores of the test look that calibrated threshold and network gave."
    mtimes = {file: file.stat().st_mtime for file in run.glob("scores/test-*.json")}
    if not mtimes:
        raise SystemExit(f"{run} has had no test look; run nbs/30_calibrate.ipynb -p evaluate true first")
    return load_scores(max(mtimes, key=lambda file: mtimes[file]).with_suffix(""))


def show_curves(scores, look: dict):
    "Precision and recall of pixels at each ratio."
    fig, ax = plt.subplots(figsize=(6.4, 4.2), dpi=110, layout="constrained")
    shades = np.linspace(0, 0.65, len(look["results"]))
    for grey, style, (ratio, found) in zip(shades, ("-", "--", "-.", ":"), look["results"].items(), strict=True):
        curve = pr_curve(binned_pixels(scores.histogram, float(ratio)))
        label = f"1:{ratio}: PR-AUC {interval_text(found, 'pr_auc')}"
        ax.plot(curve.recall, curve.precision, style, color=str(grey), label=label)
    ax.set(xlabel="recall of RTS pixels", ylabel="precision of RTS pixels", xlim=(0, 1), ylim=(0, 1))
    tiles = look["tiles"]
    ax.legend(fontsize=8, frameon=False, loc="upper right")
    n = f"{tiles['positive']} positive and {tiles['negative']} negative tiles"
    ax.set_title(f"What rarity costs: test regions of the public images,\n{n}, weighted to each ratio", fontsize=10)
    return fig


def results(run: Path, calibration: dict, look: dict, map_counts: np.ndarray, n_images: int) -> str:
    "The table of docs/public.md, in Markdown."
    ratio = str(calibration["operating_ratio"])
    entry, found = calibration["thresholds"][ratio], look["results"][ratio]
    promise = (
        f"{interval_text(entry, 'precision')} ({entry['precision_of']}; target {calibration['target_precision']:g}: "
    )
    promise += {True: "reached", False: "not reached", "undecided": "undecided"}[entry["reachable"]] + ")"
    rows = [
        ("tiles of the test regions", f"{look['tiles']['positive']} positive, {look['tiles']['negative']} negative")
    ]
    rows += [
        (f"PR-AUC of pixels at 1:{r}", interval_text(of_ratio, "pr_auc")) for r, of_ratio in look["results"].items()
    ]
    rows += [
        (f"precision promised at 1:{ratio}", promise),
        (f"precision of objects on test tiles, IoU 0.3, 1:{ratio}", interval_text(found, "object_precision")),
        (f"recall of objects on test tiles, 1:{ratio}", interval_text(found, "object_recall")),
        (f"precision of objects on the map of {n_images} whole images", share_of_hits(map_counts, 1)),
        ("recall of objects on that map", share_of_hits(map_counts, 2)),
    ]
    return "| figure | measured |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def main(args) -> None:
    run = Path(resolve(args.run_dir))
    cfg = load_config(run / "config.yaml")
    calibration = calibration_of(run)
    looks = json.loads((run / "test_looks.json").read_text(encoding="utf-8"))
    out = run / "public"
    tiles = load_tiles(cfg.data.root, cfg.data.block_km).query("split == 'test'")
    block_of = dict(zip(image_of_tiles(tiles), tiles["block"], strict=True))
    names = sorted(block_of)
    write_scenes(out / "scenes", names)
    infer(run, str(out / "scenes"), out / "map", fresh=(out / "map").exists())
    compared = map_against_truth(out / "map", str(out / "scenes"))
    counts = counts_by_block(compared, out / "scenes", block_of)
    assert counts.sum(0).tolist() == [len(compared.hits), compared.counts["false"], compared.counts["missed"]]
    show_map(compared, out / "scenes", names).savefig(out / "map.png")
    show_curves(test_scores(run), looks[-1]).savefig(out / "curves.png")
    text = results(run, calibration, looks[-1], counts, len(names))
    (out / "results.md").write_text(text, encoding="utf-8")
    print(truth_table(compared), text, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="such as runs/public/seed-42")
    main(parser.parse_args())
