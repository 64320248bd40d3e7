"""Checks a run's data as training will read it, through the DataLoader: augmented, normalised, collated, sampled.

python check_data.py [--config configs/x.yaml] [--overrides "a.b=c"] [--batches 8] [--figure batch.png]
Prints a table, writes a figure of a real batch, and exits with 1 when anything is wrong.
"""
import argparse
import sys
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import torch

from rts_nb.config import default_config, load_config
from rts_nb.data import RTSError, check_dataset, dataset_version, load_stats, load_tiles, prepare, resolve, show_path
from rts_nb.loading import TrainTiles, ratio_at, train_loader
from rts_nb.train import show_batch


def batch_faults(batch, cfg, positive, number):
    "What is wrong with one batch: shapes, values, labels, and whether positives are in it."
    image, target, size = batch['image'], batch['target'], cfg.data.tile_size
    shape = (cfg.sampling.batch_size, cfg.model.in_channels, size, size)
    if tuple(image.shape) != shape: yield f'batch {number}: images are {tuple(image.shape)}, expected {shape}'
    if not torch.isfinite(image).all(): yield f'batch {number}: {int((~torch.isfinite(image)).sum())} values are not finite after normalisation'
    if image.abs().max() > 50: yield f'batch {number}: a value is {float(image.abs().max()):.0f} standard deviations from the mean; the statistics are of other data'
    if (((target < 0) | (target > 1)) & (target != 255)).any(): yield f'batch {number}: targets outside 0 … 1 and 255'
    room = cfg.sampling.batch_size/(1 + ratio_at(cfg.sampling.curriculum, 1)) >= 1
    if room and not any(positive[i] for i in batch['index'].tolist()): yield f'batch {number}: no positive tile, though there is room for one'


def check(cfg, n_batches):
    "(faults, number of batches seen, positive tiles in them)."
    root = prepare(cfg.data)
    faults = check_dataset(root)
    if faults: return faults, 0, 0
    tiles = load_tiles(root, cfg.data.block_km).query('split == "train"')
    stats = load_stats(Path(root)/'normalization_stats.json', cfg.data.extra_channels, dataset_version(root))
    positive = tiles['positive'].tolist()
    loader = train_loader(TrainTiles(root, tiles, cfg.data, stats, cfg.augment, cfg.boundary, cfg.seed), positive, cfg.sampling, cfg.loader)
    seen = positives = 0
    for batch in loader:
        faults += batch_faults(batch, cfg, positive, seen)
        seen, positives = seen + 1, positives + sum(positive[i] for i in batch['index'].tolist())
        if seen == n_batches: break
    return faults, seen, positives


def main(args):
    cfg = load_config(args.config or default_config(), args.overrides)
    faults, seen, positives = check(cfg, args.batches)
    print(f'{"data":<22}{show_path(resolve(cfg.data.root))}')
    print(f'{"batches through loader":<22} {seen} of {cfg.sampling.batch_size} tiles, {positives} of these positive')
    print(f'{"faults":<22} {len(faults)}')
    for fault in faults: print(f'  {fault}')
    if not faults:
        figure = Path(args.figure).resolve()
        show_batch(cfg).savefig(figure, dpi=110)
        print(f'{"figure of a batch":<22} {show_path(figure)}')
    return int(bool(faults))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='', help='YAML file of the run; default $RTS_CONFIG, else configs/sample.yaml')
    parser.add_argument('--overrides', default='', help='changes of the config, like "sampling.batch_size=8"')
    parser.add_argument('--batches', type=int, default=8, help='batches of the first epoch to look at')
    parser.add_argument('--figure', default='check_data.png', help='where the figure goes')
    try: sys.exit(main(parser.parse_args()))
    except (RTSError, OSError) as e: sys.exit(f'check_data.py: {e}')
