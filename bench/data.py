"""What reading, augmenting and counting tiles costs, as ratios against the plain way: `python bench/data.py [ROW ...]`.

sample      one training sample of 512 px (read, augment, boundary, normalise, to tensor) against rasterio's read, the
            same transforms with the same draws as a plain albumentations pipeline, and the same normalisation
transforms  what each transform costs at its probability, and how many workers 100 samples a second need
loader      a DataLoader with two workers against one
stats       statistics over 2,000 tiles against merely reading them as often, with as many threads
memory      peak memory of statistics over 200 and over 2,000 tiles
Without a row, all of them: about a quarter of an hour, in which nothing else should run. Tiles are painted into a
temporary folder; times are milliseconds.
"""

import itertools
import json
import math
import sys
import tempfile
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import rasterio
import torch
from common import compare, once, peak_mb, print_header, print_verdict, seconds
from painted import PAINTED, SIZE, paint_tiles, repeat_tiles, tile_name

from rts_nb.core.jobs import threaded_map
from rts_nb.settings.config import load_config
from rts_nb.tiles.augment import geometric, radiometric, seed_each
from rts_nb.tiles.layout import (
    EXTRA_CHANNELS,
    load_tiles,
    read_raster,
    read_tile,
    tile_path,
)
from rts_nb.tiles.loading import LoaderConfig, TrainTiles, data_loader, sample_seed
from rts_nb.tiles.statistics import compute_stats

CFG = load_config("configs/baseline.yaml")


def train_tiles(root, channels=()):
    "The dataset as training reads it, and its statistics."
    stats = json.loads((root / "normalization_stats.json").read_text(encoding="utf-8"))
    data = CFG.data.model_copy(update=dict(root=str(root), tile_size=SIZE, extra_channels=tuple(channels)))
    return TrainTiles(root, load_tiles(root), data, CFG.augment, CFG.boundary, seed=42), stats


class PlainSample:
    "The same sample the plain way; `seed` makes it draw what ours draws, and is not timed."

    def __init__(self, root, stats, channels):
        self.root, self.channels = root, channels
        self.move = A.Compose(geometric(CFG.augment, SIZE), additional_targets={"extra": "image"})
        self.colour = A.Compose(radiometric(CFG.augment))
        self.mean, self.std = (
            np.array(stats["rgb"][k] + [stats["extra"][k][c] for c in channels], "f4") for k in ("mean", "std")
        )

    def seed(self, seed):
        seed_each(self.move, seed)
        seed_each(self.colour, seed + 1)

    def read(self, folder, tile_id):
        with rasterio.open(f"{self.root}/{folder}/{tile_id}.tif") as f:
            return f.read()

    def __call__(self, tile_id):
        rgb = np.ascontiguousarray(self.read("PLANET-RGB", tile_id).transpose(1, 2, 0))
        label = self.read("labels", tile_id)[0]
        extra = {}
        if self.channels:
            extra["extra"] = np.ascontiguousarray(self.read("EXTRA", tile_id).transpose(1, 2, 0))
        out = self.move(image=rgb, mask=label, **extra)
        image = self.colour(image=out["image"])["image"].astype("f4")
        if extra:
            image = np.concatenate([image, out["extra"]], -1)
        image = (image - self.mean) / self.std
        target = torch.from_numpy(out["mask"].astype("f4"))[None]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), target


def compare_samples(name, root, channels, draws=48):
    dataset, stats = train_tiles(root, channels)
    plain = PlainSample(root, stats, channels)
    our_epochs, peer_epochs = itertools.count(1), itertools.count(1)

    def ours():
        epoch = next(our_epochs)
        times = [seconds(dataset.__getitem__, (k % PAINTED, epoch, k)) for k in range(draws)]
        return sum(times) / draws

    def peer():
        epoch = next(peer_epochs)
        times = []
        for k in range(draws):
            plain.seed(sample_seed(42, epoch, k))
            times.append(seconds(plain, tile_name(k % PAINTED)))
        return sum(times) / draws

    measured = compare(ours, peer)
    print_verdict(name, measured, 1.15)
    print(f"    100 samples a second need {math.ceil(100 * measured.ours)} workers of this machine")


def bench_sample(root):
    compare_samples("a sample, RGB", root, ())
    compare_samples("a sample, RGB and 4 EXTRA bands", root, EXTRA_CHANNELS)


def bench_transforms(root, repeats=40):
    dataset, _ = train_tiles(root)
    raw = read_tile(root, tile_name(0), ())
    image = np.ascontiguousarray(raw["rgb"].transpose(1, 2, 0))
    whole = np.median([seconds(dataset.__getitem__, (k % PAINTED, 1, k)) for k in range(3 * repeats)])
    print(f"{'transform':<28}{'alone':>8}{'at its p':>10}{'share of a sample':>20}")
    for transform in [*geometric(CFG.augment, SIZE)[:7], *radiometric(CFG.augment)]:
        p = transform.p
        transform.p = 1.0
        alone = np.median([seconds(transform, image=image, mask=raw["label"]) for _ in range(repeats)])
        print_share(type(transform).__name__, alone, alone * p, whole)
    reading = np.median([seconds(read_tile, root, tile_name(k % PAINTED), ()) for k in range(repeats)])
    print_share("reading", reading, reading, whole)
    print(f"{'a sample (median)':<28}{1e3 * whole:>8.2f}")


def print_share(name, alone, expected, whole):
    "One row of the table of transforms: what it costs alone and at its probability (s), of a whole sample."
    print(f"{name:<28}{1e3 * alone:>8.2f}{1e3 * expected:>10.2f}{expected / whole:>20.1%}")


def bench_loader(root, n=256):
    dataset, _ = train_tiles(root)
    batches = [[(k % PAINTED, 1, k) for k in range(start, start + 8)] for start in range(0, n, 8)]

    def loader_of(workers):
        section = LoaderConfig(num_workers=workers, prefetch_factor=2, pin_memory=False, persistent_workers=True)
        return data_loader(dataset, section, batch_sampler=batches)

    def read_all(loader):
        for _ in loader:
            pass

    one, two = loader_of(1), loader_of(2)
    measured = compare(lambda: seconds(read_all, one) / n, lambda: seconds(read_all, two) / n, rounds=7)
    print_verdict("one worker / two workers, a sample", measured, 1.7, at_most=False)


def bench_stats(root, n=2000):
    tiles = repeat_tiles(root, n)
    ids = list(tiles["Tile_id"])

    def read_shape(path):
        return read_raster(path).shape

    def read_all():
        for kind in ("rgb", "extra", "extra"):  # as often as statistics need them
            for _ in threaded_map(read_shape, [tile_path(root, kind, tile_id) for tile_id in ids]):
                pass

    measured = compare(
        lambda: seconds(compute_stats, root, tiles) / n, lambda: seconds(read_all) / n, rounds=5, warm=False
    )
    print_verdict("statistics, a tile / reading it as often", measured, 1.3)


def stats_of(root, n):
    compute_stats(root, repeat_tiles(root, n))


def bench_memory(root):
    repeat_tiles(root, 2000)
    few, many = peak_mb(stats_of, root, 200), peak_mb(stats_of, root, 2000)
    print_verdict("peak memory of statistics, 2,000 tiles / 200 (MiB)", once(many, few), None, unit="MiB")


ROWS = {
    "sample": bench_sample,
    "transforms": bench_transforms,
    "loader": bench_loader,
    "stats": bench_stats,
    "memory": bench_memory,
}

if __name__ == "__main__":
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    print_header()
    with tempfile.TemporaryDirectory() as folder:
        root = paint_tiles(Path(folder))
        for row in sys.argv[1:] or ROWS:
            ROWS[row](root)
