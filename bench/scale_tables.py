"""What training's tables cost at a million tiles: `python bench/scale_tables.py [--tiles 10000 100000 1000000]`.

The tables of a dataset are made up: regions of a thousand tiles that touch each other, six of them positive, in pairs
that a slump crosses. No image is written, and no step reads one. Each
step runs in a process of its own: seconds of the step alone, and the peak memory of the process, which holds the
package's libraries and the table before it starts. Slopes are of the logarithms of seconds and of the memory beyond
those libraries against the logarithm of the number of tiles: 1 is linear.
What is found is written to docs/scale_tables.json and docs/scale_tables.md.
"""

import argparse
import datetime
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from affine import Affine
from common import cost_of, seconds

from rts_nb.core.files import atomic, project_root, write_json
from rts_nb.settings.config import load_config
from rts_nb.tiles.checks import content_digests, metadata_faults, place_faults, table_faults
from rts_nb.tiles.folds import choose_folds, keep_train_share, split_by_fold
from rts_nb.tiles.layout import TileRow, load_splits, load_tiles, write_metadata
from rts_nb.tiles.loading import EpochSampler, contents, few_positives
from rts_nb.tiles.slumps import shared_parts, slump_records, tile_corners
from rts_nb.tiles.splits import choose_splits, save_splits, slump_faults, split_faults
from rts_nb.tiles.statistics import ids_digest

CFG = load_config("configs/baseline.yaml")
SIZE, PIXEL_M = CFG.data.tile_size, 3.0
SIDE = SIZE * PIXEL_M  # metres
OF_REGION, PAIRS_APART = 1000, 400  # tiles; every so many of them, two are positive
ACROSS, APART = 32, 100_000.0  # tiles of a region's row, metres between regions
TABLE = "tiles.parquet"


def tile_rows(n: int) -> Iterator[TileRow]:
    "The rows of a made-up dataset of n tiles."
    n_regions = -(-n // OF_REGION)
    columns = int(np.ceil(np.sqrt(n_regions)))
    for k in range(n):
        region, place = divmod(k, OF_REGION)
        left = -1_600_000 + APART * (region % columns) + SIDE * (place % ACROSS)
        top = -200_000 - APART * (region // columns) - SIDE * (place // ACROSS)
        positive = place % PAIRS_APART < 2
        slumps = [f"ARTS-{k - place % 2:07d}", f"ARTS-{k:07d}-b"] if positive else []
        transform = Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top)
        yield TileRow(f"tile_{k:07d}", transform, SIZE, positive, f"Region {region:04d}", slumps)


def make_tables(root: Path, n: int) -> None:
    "metadata.csv, splits.yaml and version.json of n tiles, and the table of load_tiles as another process reads it."
    write_metadata(root, tile_rows(n))
    write_json(root / "version.json", dict(dataset_version="2.0", tile_size=SIZE, extra_channels=[]))
    regions = [f"Region {k:04d}" for k in range(-(-n // OF_REGION))]
    first, second = int(0.8 * len(regions)), int(0.9 * len(regions))
    save_splits(root, dict(train=regions[:first], val=regions[first:second], test=regions[second:]))
    load_tiles(root).to_parquet(root / TABLE)


# ---------------------------------------------------------------- steps: of a dataset's root, seconds of the step alone


def read_tables(root: Path) -> pd.DataFrame:
    "The table of load_tiles, read without its cost."
    return pd.read_parquet(root / TABLE)


def only_imports(root: Path) -> float:
    read_tables(root)
    return 0.0


def rows_written(root: Path) -> float:
    rows = list(tile_rows(len(read_tables(root))))
    with tempfile.TemporaryDirectory() as folder:
        return seconds(write_metadata, folder, rows)


def tiles_loaded(root: Path) -> float:
    return seconds(load_tiles, root)


def tables_checked(root: Path) -> float:
    return seconds(table_faults, root)


def rows_checked(root: Path) -> float:
    tiles, splits = read_tables(root), load_splits(root)

    def check():
        assert not [*metadata_faults(tiles), *split_faults(tiles, splits), *slump_faults(tiles)]

    return seconds(check)


def faults_listed(root: Path) -> float:
    "The worst of tables: each tile stands in it twice, and no region is in a split."
    tiles = pd.concat([read_tables(root)] * 2, ignore_index=True).assign(split=None)

    def check():
        found = [*metadata_faults(tiles), *split_faults(tiles, dict(train=[], val=[], test=[]))]
        assert len(found) > len(tiles) // 2

    return seconds(check)


def places_checked(root: Path) -> float:
    tiles = read_tables(root)
    left, top = tile_corners(tiles, SIDE).T
    sound = tiles.assign(left=left, top=top, right=left + SIDE, bottom=top - SIDE, pixel_m=PIXEL_M)

    def check():
        assert not place_faults(sound, ())

    return seconds(check)


def contents_named(root: Path) -> float:
    tiles = read_tables(root)
    digests = pd.DataFrame(dict(rgb=tiles["Tile_id"], label=tiles["Tile_id"]))
    return seconds(content_digests, root, tiles, digests) + seconds(ids_digest, tiles["Tile_id"])


def splits_chosen(root: Path) -> float:
    return seconds(choose_splits, read_tables(root))


def folds_chosen(root: Path) -> float:
    return seconds(choose_folds, read_tables(root), SIDE, 5)


def share_kept(root: Path) -> float:
    tiles = read_tables(root)
    regions = sorted(set(tiles["RegionName"]))[::5]
    return seconds(lambda: keep_train_share(split_by_fold(tiles, regions), 0.5))


def epochs_drawn(root: Path, epoch: int) -> float:
    sampler = EpochSampler(read_tables(root)["positive"], CFG.sampling, CFG.seed)
    sampler.epoch = epoch

    def draw():
        assert sum(map(len, sampler)) == len(sampler) * CFG.sampling.batch_size

    return seconds(draw)


def first_epoch(root: Path) -> float:
    return epochs_drawn(root, 1)


def last_epoch(root: Path) -> float:
    return epochs_drawn(root, CFG.train.epochs)


def epochs_described(root: Path) -> float:
    positive = read_tables(root)["positive"]
    n = int(positive.sum()), int((~positive).sum())

    def describe():
        contents(*n, CFG.sampling, range(1, CFG.train.epochs + 1))
        few_positives(*n, CFG.sampling)

    return seconds(describe)


def slumps_placed(root: Path) -> float:
    "Of the tiles of val and test alone, whose objects are matched."
    tiles = read_tables(root)
    judged = tiles[tiles["split"] != "train"]

    def place():
        slump_records(root, judged, SIDE)
        shared_parts(tile_corners(judged, SIDE), SIDE)

    return seconds(place)


STEPS: dict[str, Callable[[Path], float]] = {
    "libraries and the table": only_imports,
    "write_metadata": rows_written,
    "load_tiles": tiles_loaded,
    "table_faults (each table read)": tables_checked,
    "faults of metadata.csv and splits.yaml, slumps in two splits": rows_checked,
    "the same where every row and every region is faulty": faults_listed,
    "faults of places: centres, pixel sizes, overlaps of splits": places_checked,
    "content_digests, ids_digest": contents_named,
    "choose_splits": splits_chosen,
    "choose_folds, 5": folds_chosen,
    "split_by_fold, keep_train_share": share_kept,
    "EpochSampler, an epoch of the first ratio": first_epoch,
    "EpochSampler, an epoch of the last ratio": last_epoch,
    "contents of all epochs, few_positives": epochs_described,
    "slumps and shared ground of val and test tiles": slumps_placed,
}


# ---------------------------------------------------------------- what is found


def measure(counts: list[int], wanted: str) -> dict[str, dict]:
    "{step: {tiles: {seconds, peak_mib}}}."
    found: dict[str, dict] = {name: {} for name in STEPS if wanted in name}
    for n in counts:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "rts"
            root.mkdir()
            cost_of(make_tables, root, n, start="fork")
            print(f"{n:,} tiles", flush=True)
            for name in found:
                taken, peak = cost_of(STEPS[name], root, start="fork")
                found[name][n] = dict(seconds=round(taken, 3), peak_mib=round(peak))
                print(f"  {name:<62}{taken:>9.2f} s{peak:>8.0f} MiB", flush=True)
    return found


def slope(counts: list[int], values: list[float]) -> float | None:
    "The slope of log value against log count; None where a value is too small to have one."
    if len(counts) < 2 or min(values) <= 0:
        return None
    return round(float(np.polyfit(np.log(counts), np.log(values), 1)[0]), 2)


def with_slopes(found: dict[str, dict], counts: list[int]) -> dict[str, dict]:
    "The steps with the slopes of seconds and of the memory beyond that of the libraries."
    base = min(entry["peak_mib"] for entry in found["libraries and the table"].values())
    out = {}
    for name, by_count in found.items():
        beyond = [by_count[n]["peak_mib"] - base for n in counts]
        slopes = dict(
            slope_seconds=slope(counts, [by_count[n]["seconds"] for n in counts]),
            slope_memory=slope(counts, beyond),
        )
        out[name] = {str(n): by_count[n] for n in counts} | slopes
    return out


def table_text(steps: dict[str, dict], counts: list[int]) -> str:
    "The steps as a table of Markdown."
    heads = ["step", *(f"{n:,} tiles" for n in counts), "slope: seconds", "memory"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, entry in steps.items():
        cells = [f"{entry[str(n)]['seconds']:.2f} s, {entry[str(n)]['peak_mib']:,} MiB" for n in counts]
        slopes = ["–" if entry[key] is None else f"{entry[key]:.2f}" for key in ("slope_seconds", "slope_memory")]
        lines.append("| " + " | ".join([name, *cells, *slopes]) + " |")
    return "\n".join(lines)


PAGE = """# Training's tables at a million tiles

`python bench/scale_tables.py`, {date}, {cores} cores with a load of {load:.1f} (with other work), Python {python}.
Written by that command.

A dataset is its tables before it is images: every run reads them, checks them, divides them into splits or folds, and
draws each epoch from them. Here they are made up (regions of 1,000 tiles that touch, six of them positive), and no
image is read. Seconds are of the step alone. Memory is the peak of the process that ran it, which holds {base:,} MiB
of libraries, and at most {table:,} MiB with the table. A slope of 1 is linear growth.

{table_of_steps}
"""


def write_found(steps: dict[str, dict], counts: list[int], folder: Path) -> None:
    "Writes scale_tables.json and scale_tables.md."
    date = str(datetime.date.today())
    peaks = [steps["libraries and the table"][str(n)]["peak_mib"] for n in counts]
    machine = dict(date=date, cores=os.cpu_count(), load=os.getloadavg()[0], python=platform.python_version())
    write_json(folder / "scale_tables.json", machine | dict(tiles=counts, steps=steps))
    told = dict(base=min(peaks), table=max(peaks), table_of_steps=table_text(steps, counts))
    with atomic(folder / "scale_tables.md") as temporary:
        temporary.write_text(PAGE.format(**machine, **told), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--step", default="", help="part of a step's name; then nothing is written")
    parser.add_argument("--out", type=Path, default=project_root() / "docs")
    given = parser.parse_args()
    counts = sorted(given.tiles)
    found = measure(counts, given.step)
    if not given.step:
        write_found(with_slopes(found, counts), counts, given.out)


if __name__ == "__main__":
    main()
