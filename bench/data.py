"""What reading, augmenting and counting tiles costs, as ratios against the plain way: `python bench/data.py [sample] [transforms] [loader] [stats] [memory]`.

sample      one training sample of 512 px (read, augment, boundary, normalise, to tensor) against rasterio's read, the same transforms with the same draws as a
            plain albumentations pipeline, and the same normalisation
transforms  what each transform costs at its probability, and how many workers 100 samples a second need
loader      a DataLoader with two workers against one
stats       statistics over 2,000 tiles against merely reading them as often, with as many threads
memory      peak memory of statistics over 200 and over 2,000 tiles
Nothing else should run meanwhile; all of it takes about a quarter of an hour. Tiles are painted into a temporary folder; times are milliseconds.
"""

import itertools
import json
import math
import os
import sys
import tempfile
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import rasterio
import torch
from common import compare, peak_mb, seconds, verdict
from rasterio.transform import from_origin

from rts_nb.core.files import write_json
from rts_nb.core.jobs import threaded_map
from rts_nb.settings.config import load_config
from rts_nb.tiles.augment import geometric, radiometric, seed_each
from rts_nb.tiles.layout import (
    EXTRA_CHANNELS,
    FOLDERS,
    load_tiles,
    read_raster,
    read_tile,
    tile_path,
    write_metadata,
    write_tile,
)
from rts_nb.tiles.loading import LoaderConfig, TrainTiles, data_loader, sample_seed
from rts_nb.tiles.sample import paint, palette_of
from rts_nb.tiles.splits import write_splits
from rts_nb.tiles.statistics import compute_stats

SIZE, PAINTED = 512, 24
CFG = load_config("configs/baseline.yaml")


def paint_tiles(root):
    "A dataset of a few painted tiles of 512 px in four regions, with statistics."
    rows = []
    for k in range(PAINTED):
        rng = np.random.default_rng(k)
        rgb, extra, label = paint(rng, SIZE, SIZE, palette_of(rng), slumps=2 * (k % 2), lookalikes=2)
        transform = from_origin(-1_500_000 + 200_000 * (k % 4) + 3000 * k, -1_200_000, 3, 3)
        write_tile(root, f"t{k:04d}", rgb, np.where(label == 1, k % 2, label), transform, extra)
        rows.append((f"t{k:04d}", transform, SIZE, k % 2 == 1, f"r{k // 6}", []))
    write_metadata(root, rows)
    write_json(root / "version.json", dict(dataset_version="2.0", tile_size=SIZE))
    write_splits(root)
    write_json(root / "normalization_stats.json", compute_stats(root, load_tiles(root).assign(split="train")))
    return root


def multiply(root, n):
    "The table of a dataset of n tiles: the painted ones over and over, under other names."
    tiles = load_tiles(root)
    for k in range(PAINTED, n):
        for folder in FOLDERS.values():
            if not (root / folder / f"t{k:04d}.tif").exists():
                os.link(root / folder / f"t{k % PAINTED:04d}.tif", root / folder / f"t{k:04d}.tif")
    return tiles.iloc[np.arange(n) % PAINTED].assign(Tile_id=[f"t{k:04d}" for k in range(n)], split="train")


def dataset(root, channels):
    stats = json.loads((root / "normalization_stats.json").read_text())
    data = CFG.data.model_copy(update=dict(root=str(root), tile_size=SIZE, extra_channels=tuple(channels)))
    return TrainTiles(root, load_tiles(root), data, stats, CFG.augment, CFG.boundary, seed=42), stats


class Plain:
    "The same sample the plain way; `seed` makes it draw what ours draws, and is not timed."

    def __init__(self, root, stats, channels):
        self.root, self.channels = root, channels
        self.move, self.colour = (
            A.Compose(geometric(CFG.augment, SIZE), additional_targets={"extra": "image"}),
            A.Compose(radiometric(CFG.augment)),
        )
        self.mean, self.std = (
            np.array(stats["rgb"][k] + [stats["extra"][k][c] for c in channels], "f4") for k in ("mean", "std")
        )

    def seed(self, seed):
        seed_each(self.move, seed)
        seed_each(self.colour, seed + 1)

    def __call__(self, tile_id):
        with rasterio.open(f"{self.root}/PLANET-RGB/{tile_id}.tif") as f:
            rgb = f.read()
        with rasterio.open(f"{self.root}/labels/{tile_id}.tif") as f:
            label = f.read(1)
        extra = {}
        if self.channels:
            with rasterio.open(f"{self.root}/EXTRA/{tile_id}.tif") as f:
                extra = {"extra": np.ascontiguousarray(f.read().transpose(1, 2, 0))}
        out = self.move(image=np.ascontiguousarray(rgb.transpose(1, 2, 0)), mask=label, **extra)
        image = self.colour(image=out["image"])["image"].astype("f4")
        if extra:
            image = np.concatenate([image, out["extra"]], -1)
        image = (image - self.mean) / self.std
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(
            out["mask"].astype("f4")
        )[None]


def sample(root, draws=48):
    for name, channels in (("a sample, RGB", ()), ("a sample, RGB and 4 EXTRA bands", EXTRA_CHANNELS)):
        ours, stats = dataset(root, channels)
        plain, epochs, peers = Plain(root, stats, channels), itertools.count(1), itertools.count(1)

        def peer():
            total, epoch = 0, next(peers)
            for k in range(draws):
                plain.seed(sample_seed(42, epoch, k))
                total += seconds(plain, f"t{k % PAINTED:04d}")
            return total / draws

        def own():
            epoch = next(epochs)
            return sum(seconds(ours.__getitem__, (k % PAINTED, epoch, k)) for k in range(draws)) / draws

        measured = compare(own, peer)
        verdict(name, measured, 1.15)
        print(f"    100 samples a second need {math.ceil(100 * measured[3])} workers of this machine")


def transforms(root, repeats=40):
    data, _ = dataset(root, ())
    raw = data_sample(root, data)
    image = np.ascontiguousarray(raw["rgb"].transpose(1, 2, 0))
    whole = np.median([seconds(data.__getitem__, (k % PAINTED, 1, k)) for k in range(3 * repeats)])
    print(f"{'transform':<28}{'alone':>8}{'at its p':>10}{'share of a sample':>20}")
    for t in [*geometric(CFG.augment, SIZE)[:7], *radiometric(CFG.augment)]:
        name, p, t.p = type(t).__name__, t.p, 1.0
        ms = 1e3 * np.median([seconds(lambda: t(image=image, mask=raw["label"])) for _ in range(repeats)])
        print(f"{name:<28}{ms:>8.2f}{ms * p:>10.2f}{ms * p / (1e3 * whole):>20.1%}")
    read = np.median([seconds(data_sample, root, data, k % PAINTED) for k in range(repeats)])
    print(
        f"{'reading':<28}{1e3 * read:>8.2f}{1e3 * read:>10.2f}{read / whole:>20.1%}\n{'a sample (median)':<28}{1e3 * whole:>8.2f}"
    )


def data_sample(root, data, k=0):
    return read_tile(root, f"t{k:04d}", data.data.extra_channels)


def loader(root, n=256):
    data, _ = dataset(root, ())
    keys = [[(k % PAINTED, 1, k) for k in range(b, b + 8)] for b in range(0, n, 8)]
    loaders = {
        w: data_loader(
            data,
            LoaderConfig(num_workers=w, prefetch_factor=2, pin_memory=False, persistent_workers=True),
            batch_sampler=keys,
        )
        for w in (1, 2)
    }
    one, two = (lambda w=w: seconds(lambda: [None for _ in loaders[w]]) / n for w in (1, 2))
    ratio, low, high, a, b = compare(one, two, rounds=7)
    verdict("one worker / two workers, a sample", (ratio, low, high, a, b), 1.7, at_most=False)


def stats(root, n=2000):
    tiles = multiply(root, n)
    ids = list(tiles["Tile_id"])
    kinds = ("rgb", "extra", "extra")  # as often as statistics need them

    def threads():
        for kind in kinds:
            for _ in threaded_map(lambda t: read_raster(tile_path(root, kind, t)).shape, ids):
                pass

    ours = lambda: seconds(compute_stats, root, tiles) / n
    verdict(
        "statistics, a tile / reading it as often",
        compare(ours, lambda: seconds(threads) / n, rounds=3, warm=False),
        1.3,
    )


def memory(root):
    multiply(root, 2000)
    code = "import sys; sys.path.insert(0, {here!r}); from pathlib import Path; from data import multiply, compute_stats; root = Path({root!r}); compute_stats(root, multiply(root, {n}))"
    few, many = (peak_mb(code.format(here=str(Path(__file__).parent), root=str(root), n=n)) for n in (200, 2000))
    print(f"{'peak memory of statistics: 200 and 2,000 tiles (MiB)':<60}{few:>10.0f}{many:>10.0f}{many / few:>8.2f}")


if __name__ == "__main__":
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or ["sample", "transforms", "loader", "stats", "memory"]
    print(f"{'':<60}{'ours':>10}{'peer':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        painted = paint_tiles(Path(folder))
        for name in wanted:
            globals()[name](painted)
