"""Checks a run's data as training will read it, through the DataLoader: augmented, normalised, collated, sampled.

python check_data.py [--config configs/x.yaml] [--root folder] [--overrides "a.b=c"] [--batches 8] [--figure batch.png]
                     [--overlaps]
Prints a table and the faults, writes a figure of a real batch, and exits with 1 when anything is wrong.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch

from rts_nb.core.files import RTSError, is_virtual, resolve, show_path, typed_path
from rts_nb.core.jobs import forgiving_output, progress
from rts_nb.data import prepare
from rts_nb.settings.config import load_config
from rts_nb.settings.places import default_config
from rts_nb.tiles.checks import Fault, check_dataset, faults_of
from rts_nb.tiles.layout import FOLDERS, load_tiles
from rts_nb.tiles.loading import TrainTiles, normalized_images, ratio_at, train_loader
from rts_nb.tiles.overlaps import content_overlaps, has_invented_positions
from rts_nb.tiles.statistics import run_stats
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


@dataclasses.dataclass
class SeenBatches:
    "What was seen of the first epoch."

    faults: list[Fault]
    summary: str  # how many batches and tiles, for the table
    first: dict | None  # batch
    stats: dict


def batch_faults(batch, image, cfg, positive, number):
    "What is wrong with one batch and its normalised images: shapes, values, labels, and whether positives are in it."
    target, size = batch["target"], cfg.data.tile_size
    shape = (cfg.sampling.batch_size, cfg.model.in_channels, size, size)
    finite = torch.isfinite(image)
    largest = float(image.abs().max())
    faults = []
    if tuple(image.shape) != shape:
        faults.append(f"images are {tuple(image.shape)}, expected {shape}")
    if not finite.all():
        faults.append(f"{int((~finite).sum())} values are not finite after normalisation")
    if largest > 50:
        found = f"a value is {largest:.0f} standard deviations from the mean"
        faults.append(f"{found}; the statistics are of other data")
    if (((target < 0) | (target > 1)) & (target != 255)).any():
        faults.append("targets outside 0 … 1 and 255")
    if (target == 255).all():
        faults.append("every pixel is ignored")
    has_room = cfg.sampling.batch_size / (1 + ratio_at(cfg.sampling.curriculum, 1)) >= 1
    if has_room and not any(positive[i] for i in batch["index"].tolist()):
        faults.append("no positive tile, though there is room for one")
    return faults_of("batch", [f"batch {number}: {fault}" for fault in faults])


def check_batches(cfg, root, n_batches):
    "The first epoch's batches, read as training reads them; all of them if n_batches is 0."
    tiles = load_tiles(root, cfg.data.block_km).query('split == "train"')
    stats = run_stats(root, tiles, cfg.data)
    positive = tiles["positive"].tolist()
    data = TrainTiles(root, tiles, cfg.data, cfg.augment, cfg.boundary, cfg.seed)
    loader = train_loader(data, positive, cfg.sampling, cfg.loader)
    total = min(n_batches or len(loader), len(loader))
    seen = SeenBatches([], "", None, stats)
    n_positive = 0
    for number, batch in zip(range(total), progress(loader, "batches", total=total, unit="batch"), strict=False):
        if seen.first is None:
            seen.first = batch
        images = normalized_images(batch, stats, cfg.data.extra_channels)
        seen.faults += batch_faults(batch, images, cfg, positive, number)
        n_positive += sum(positive[i] for i in batch["index"].tolist())
    seen.summary = f"{total} of {cfg.sampling.batch_size} tiles, {n_positive} of these positive"
    return seen


def print_table(root, faults, summary):
    "One line a part of the dataset, with its number of faults, then the faults."
    print(f"{'data':<26}{show_path(root)}")
    print(f"{'batches through loader':<26}{summary}")
    for part in PARTS:
        n_faults = sum(fault.part == part for fault in faults)
        print(f"{'faults in ' + part:<36}{n_faults:>6}")
    print(f"{'faults':<36}{len(faults):>6}")
    for fault in faults[:50]:
        print(f"  {fault}")
    if len(faults) > 50:
        print(f"  … and {len(faults) - 50} more")


def run_config(args):
    "The config of the run, with --root in the place of its own data folder."
    cfg = load_config(typed_path(args.config) if args.config else default_config(), args.overrides)
    if not args.root:
        return cfg
    data = cfg.data.model_copy(update=dict(root=typed_path(args.root), source="tiles"))
    return cfg.model_copy(update=dict(data=data))


def lacks_computed(root):
    "Whether a dataset is there without what `prepare` computes: statistics, or counts of the splits."
    if is_virtual(root) or not (root / "metadata.csv").exists():
        return False
    return not all((root / name).exists() for name in ("normalization_stats.json", "splits_summary.json"))


def part_named(error):
    "The part of the dataset that an error is about: the first that it names."
    return next((part for part in PARTS if part in error), "")


def dataset_faults(cfg, root):
    "What is wrong with the dataset, prepared first where that is needed; an error where there is none at all."
    if lacks_computed(root):
        faults = check_dataset(root, computed=False)
        if faults:
            return faults
    faults = []
    try:
        prepare(cfg.data)
    except RTSError as e:
        if not is_virtual(root) and not root.is_dir():
            raise
        faults.append(Fault(part_named(str(e)), str(e)))
    for fault in check_dataset(root):
        if fault not in faults:
            faults.append(fault)
    return faults


def overlap_faults(root, look):
    "Tiles of different splits that show the same ground; where positions are invented and nobody looks, that is said."
    if look:
        return faults_of("splits.yaml", content_overlaps(root, load_tiles(root)))
    if has_invented_positions(root):
        print("positions are invented, so they do not show overlaps; --overlaps looks for them in the pixels (minutes)")
    return []


def main(args):
    forgiving_output()
    cfg = run_config(args)
    root = resolve(cfg.data.root)
    faults = dataset_faults(cfg, root) or overlap_faults(root, args.overlaps)
    if faults:
        print_table(root, faults, "none, for the data have faults")
        return 1
    seen = check_batches(cfg, root, args.batches)
    print_table(root, seen.faults, seen.summary)
    if seen.first is not None:
        figure = Path(args.figure).resolve()
        draw_batch(seen.first, seen.stats, cfg.data.extra_channels).savefig(figure, dpi=110)
        print(f"{'figure of a batch':<26}{show_path(figure)}")
    return int(bool(seen.faults))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    config_help = "YAML file of the run; default $RTS_CONFIG, else configs/sample.yaml"
    batches_help = "batches of the first epoch to look at; 0 is all of them"
    parser.add_argument("--config", default="", help=config_help)
    parser.add_argument("--root", default="", help="another data folder for the same config")
    parser.add_argument("--overrides", default="", help='changes of the config, like "sampling.batch_size=8"')
    parser.add_argument("--batches", type=int, default=8, help=batches_help)
    overlaps_help = (
        "look in the pixels for tiles of different splits that show the same ground; minutes for 2,000 tiles"
    )
    parser.add_argument("--figure", default="check_data.png", help="where the figure goes")
    parser.add_argument("--overlaps", action="store_true", help=overlaps_help)
    try:
        sys.exit(main(parser.parse_args()))
    except (RTSError, OSError) as e:
        sys.exit(f"check_data.py: {e}")
