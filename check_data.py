"""Checks a run's data as training will read it, through the DataLoader: augmented, normalised, collated, sampled.

python check_data.py [--config configs/x.yaml] [--root folder] [--overrides "a.b=c"] [--batches 8] [--figure batch.png]
Prints a table and the faults, writes a figure of a real batch, and exits with 1 when anything is wrong.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch

from rts_nb.core.files import RTSError, file_of, is_virtual, resolve, show_path
from rts_nb.core.jobs import progress
from rts_nb.data import prepare
from rts_nb.settings.config import default_config, load_config
from rts_nb.tiles.checks import check_dataset
from rts_nb.tiles.layout import FOLDERS, dataset_version, load_tiles
from rts_nb.tiles.loading import TrainTiles, ratio_at, train_loader
from rts_nb.tiles.statistics import load_stats
from rts_nb.training.figures import draw_batch

PARTS = [
    *(f"{folder}/" for folder in FOLDERS.values()),
    "metadata.csv",
    "splits.yaml",
    "splits_summary.json",
    "normalization_stats.json",
    "version.json",
    "batch",
]


def batch_faults(batch, cfg, positive, number):
    "What is wrong with one batch: shapes, values, labels, and whether positives are in it."
    image, target, size = batch["image"], batch["target"], cfg.data.tile_size
    shape = (cfg.sampling.batch_size, cfg.model.in_channels, size, size)
    if tuple(image.shape) != shape:
        yield f"batch {number}: images are {tuple(image.shape)}, expected {shape}"
    if not torch.isfinite(image).all():
        yield f"batch {number}: {int((~torch.isfinite(image)).sum())} values are not finite after normalisation"
    if image.abs().max() > 50:
        yield f"batch {number}: a value is {float(image.abs().max()):.0f} standard deviations from the mean; the statistics are of other data"
    if (((target < 0) | (target > 1)) & (target != 255)).any():
        yield f"batch {number}: targets outside 0 … 1 and 255"
    if (target == 255).all():
        yield f"batch {number}: every pixel is ignored"
    room = cfg.sampling.batch_size / (1 + ratio_at(cfg.sampling.curriculum, 1)) >= 1
    if room and not any(positive[i] for i in batch["index"].tolist()):
        yield f"batch {number}: no positive tile, though there is room for one"


def check_batches(cfg, root, n_batches):
    "(faults, what was seen, first batch, statistics) of the first epoch's batches; all of them if n_batches is 0."
    tiles = load_tiles(root, cfg.data.block_km).query('split == "train"')
    stats = load_stats(file_of(root, "normalization_stats.json"), cfg.data.extra_channels, dataset_version(root))
    positive, faults, seen, first = tiles["positive"].tolist(), [], [], None
    loader = train_loader(
        TrainTiles(root, tiles, cfg.data, stats, cfg.augment, cfg.boundary, cfg.seed),
        positive,
        cfg.sampling,
        cfg.loader,
    )
    total = min(n_batches or len(loader), len(loader))
    for number, batch in zip(range(total), progress(loader, "batches", total=total, unit="batch")):
        first = first or batch
        faults += batch_faults(batch, cfg, positive, number)
        seen += batch["index"].tolist()
    return (
        faults,
        f"{total} of {cfg.sampling.batch_size} tiles, {sum(positive[i] for i in seen)} of these positive",
        first,
        stats,
    )


def print_table(root, faults, seen):
    "One line a part of the dataset, with its number of faults, then the faults."
    print(f"{'data':<26}{show_path(root)}")
    print(f"{'batches through loader':<26}{seen}")
    for part in PARTS:
        print(f"{'faults in ' + part:<36}{sum(part in f for f in faults):>6}")
    print(f"{'faults':<36}{len(faults):>6}")
    for fault in faults[:50]:
        print(f"  {fault}")
    if len(faults) > 50:
        print(f"  … and {len(faults) - 50} more")


def main(args):
    cfg = load_config(args.config or default_config(), args.overrides)
    if args.root:
        cfg = cfg.model_copy(update=dict(data=cfg.data.model_copy(update=dict(root=args.root, source="tiles"))))
    root = resolve(cfg.data.root)
    try:
        wrong = prepare(cfg.data) and []
    except RTSError as e:
        if not is_virtual(root) and not root.is_dir():
            raise
        wrong = [str(e)]
    faults = list(dict.fromkeys([*wrong, *check_dataset(root)]))
    seen, first = "none, for the data have faults", None
    if not faults:
        faults, seen, first, stats = check_batches(cfg, root, args.batches)
    print_table(root, faults, seen)
    if first is not None:
        figure = Path(args.figure).resolve()
        draw_batch(first, stats, cfg.data.extra_channels).savefig(figure, dpi=110)
        print(f"{'figure of a batch':<26}{show_path(figure)}")
    return int(bool(faults))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", default="", help="YAML file of the run; default $RTS_CONFIG, else configs/sample.yaml"
    )
    parser.add_argument("--root", default="", help="another data folder for the same config")
    parser.add_argument("--overrides", default="", help='changes of the config, like "sampling.batch_size=8"')
    parser.add_argument(
        "--batches", type=int, default=8, help="batches of the first epoch to look at; 0 is all of them"
    )
    parser.add_argument("--figure", default="check_data.png", help="where the figure goes")
    try:
        sys.exit(main(parser.parse_args()))
    except (RTSError, OSError) as e:
        sys.exit(f"check_data.py: {e}")
