"""What a Ray cluster's caller costs: `python bench/engines.py [--scenes 10000] [--rounds 3]`.

Simulated scenes, windows of one raster, go the way of `engine: ray`: read from a table, looked up among the finished, opened for their size, sorted, handed out, and taken back. Only the task itself
does nothing, so that what remains is what scheduling costs. Nothing else should run meanwhile.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import rasterio
from rasterio.transform import from_origin

from rts_nb import infer
from rts_nb.settings.config import PredictSettings
from rts_nb.tiles.layout import CRS

TILES, SIDE = (8e6, 10e6), 512  # of the Arctic; pixels


def about(*model):
    return dict(settings=PredictSettings(), precision="fp32", profile=None)


def nothing(*args):
    pass


def table_of(folder, n, across=100):
    "A table of `n` tiles of one raster, which holds nothing."
    down = -(-n // across)
    with rasterio.open(
        folder / "raster.tif",
        "w",
        driver="GTiff",
        count=3,
        height=down * SIDE,
        width=across * SIDE,
        dtype="uint8",
        crs=CRS,
        transform=from_origin(0, 0, 3, 3),
        tiled=True,
        sparse_ok=True,
        bigtiff="IF_SAFER",
    ):
        pass
    step = 3 * SIDE
    rows = [
        f"t{k},{x * step},{-(y + 1) * step},{(x + 1) * step},{-y * step},raster.tif"
        for k in range(n)
        for y, x in [divmod(k, across)]
    ]
    (folder / "tiles.csv").write_text("\n".join(["tile_id,left,bottom,right,top,path", *rows, ""]))
    return folder / "tiles.csv"


def timed(fn, *args):
    start = time.perf_counter()
    return fn(*args), time.perf_counter() - start


def measure(folder, n):
    "Scenes a second: read from the table, sized and sorted, handed out and taken back; and all of it."
    scenes, reading = timed(infer.list_scenes, table_of(folder, n))
    with (
        patch.object(infer, "_about_task", about),
        patch.object(infer, "_map_task", nothing),
        infer.ray_cluster() as ray,
        infer.ray_engine("runs/none", None, None, {}) as (predictor, map_scenes),
    ):
        for _ in infer.on_ray(ray, nothing, [(k, ()) for k in range(200)], dict(num_cpus=1)):
            pass  # workers have started
        _, sorting = timed(infer.largest_first, scenes, predictor.settings)
        _, handing = timed(
            lambda: sum(
                1
                for _ in infer.on_ray(
                    ray, nothing, ((name, (scene, folder, name)) for name, scene in scenes.items()), dict(num_cpus=1)
                )
            )
        )
        failed, whole = timed(map_scenes, scenes, folder, folder, {}, [])
    assert not failed, f"{len(failed)} tasks failed: {next(iter(failed.values()))}"
    return dict(read=n / reading, sorted=n / sorting, scheduled=n / handing, all=n / (reading + whole))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rounds = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measure(Path(folder), args.scenes))
    print(f"{args.scenes:,} simulated scenes, tasks that do nothing, scenes a second{'':<8}{'median':>9}  (range)")
    for what in rounds[0]:
        values = sorted(r[what] for r in rounds)
        print(f"{what:<71}{statistics.median(values):>9.0f}  ({values[0]:.0f} … {values[-1]:.0f})")
    rate, handed = (statistics.median(r[k] for r in rounds) for k in ("all", "scheduled"))
    few, many = (n / rate / 3600 for n in TILES)
    print(
        f"{TILES[0] / 1e6:.0f} to {TILES[1] / 1e6:.0f} million tiles, each a task of its own, take one caller {few:.1f} to {many:.1f} hours ({1e3 / rate:.2f} ms each). It can keep {handed / 10:.0f} GPUs busy with tiles of 0.1 s, {handed:.0f} with tiles of 1 s; "
        f"for more, scenes of many tiles, or chunks of the table and --merge."
    )
