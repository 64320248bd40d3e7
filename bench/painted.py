"""A dataset of painted tiles of 512 px, for benches that read tiles."""

import os

import numpy as np
from rasterio.transform import from_origin

from rts_nb.core.files import write_json
from rts_nb.tiles.layout import FOLDERS, load_tiles, write_metadata, write_tile
from rts_nb.tiles.sample import paint, palette_of
from rts_nb.tiles.splits import write_splits
from rts_nb.tiles.statistics import compute_stats

SIZE, PAINTED = 512, 24  # side of a tile, and how many different ones


def tile_name(k):
    return f"t{k:04d}"


def paint_tiles(root):
    "A dataset of a few painted tiles of 512 px in four regions, with statistics."
    rows = []
    for k in range(PAINTED):
        positive = k % 2 == 1
        rng = np.random.default_rng(k)
        rgb, extra, label = paint(rng, SIZE, SIZE, palette_of(rng), slumps=2 if positive else 0, lookalikes=2)
        label = np.where(label == 1, int(positive), label)
        transform = from_origin(-1_500_000 + 200_000 * (k % 4) + 3000 * k, -1_200_000, 3, 3)
        write_tile(root, tile_name(k), rgb, label, transform, extra)
        rows.append((tile_name(k), transform, SIZE, positive, f"r{k // 6}", []))
    write_metadata(root, rows)
    write_json(root / "version.json", dict(dataset_version="2.0", tile_size=SIZE))
    write_splits(root)
    write_json(root / "normalization_stats.json", compute_stats(root, load_tiles(root).assign(split="train")))
    return root


def repeat_tiles(root, n):
    "The table of a dataset of n tiles: the painted ones over and over, under other names."
    tiles = load_tiles(root)
    for k in range(PAINTED, n):
        for folder in FOLDERS.values():
            link = root / folder / f"{tile_name(k)}.tif"
            if not link.exists():
                os.link(root / folder / f"{tile_name(k % PAINTED)}.tif", link)
    return tiles.iloc[np.arange(n) % PAINTED].assign(Tile_id=[tile_name(k) for k in range(n)], split="train")
