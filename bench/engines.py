"""What a Ray cluster's caller costs: `python bench/engines.py [--scenes 10000] [--rounds 5]`.

Simulated scenes, windows of one raster, go the way of `engine: ray`: read from a table, looked up among the finished,
opened for their size, sorted, handed out, and taken back. Only the task itself does nothing, so that what remains is
what scheduling costs. Nothing else should run meanwhile.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import rasterio
from common import record
from rasterio.transform import from_origin

from rts_nb.mapping import engines
from rts_nb.mapping.folder import MapJob
from rts_nb.predict.scenes import list_scenes
from rts_nb.settings.config import PredictSettings
from rts_nb.tiles.layout import CRS

ARCTIC_TILES = (8e6, 10e6)
SIDE = 512  # pixels


def about_nothing(*model):
    "Takes the place of `engines.about_task`: no predictor is loaded."
    return PredictSettings(), "fp32"


def do_nothing(*args):
    "Takes the place of `engines.map_task`."


def write_empty_raster(path, rows, columns):
    "A raster of many tiles that holds nothing."
    profile = dict(driver="GTiff", count=3, dtype="uint8", tiled=True, sparse_ok=True, bigtiff="IF_SAFER")
    grid = dict(height=rows * SIDE, width=columns * SIDE, crs=CRS, transform=from_origin(0, 0, 3, 3))
    with rasterio.open(path, "w", **profile, **grid):
        pass


def write_table(folder, n, columns=100):
    "A table of `n` tiles of one raster; its path."
    write_empty_raster(folder / "raster.tif", -(-n // columns), columns)
    step = 3 * SIDE  # m
    lines = ["tile_id,left,bottom,right,top,path"]
    for k in range(n):
        y, x = divmod(k, columns)
        box = f"{x * step},{-(y + 1) * step},{(x + 1) * step},{-y * step}"
        lines.append(f"t{k},{box},raster.tif")
    table = folder / "tiles.csv"
    table.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return table


def timed(function, *args):
    "(result, seconds) of a call."
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


def run_tasks(ray, calls):
    "Hands out tasks that do nothing, and takes them back."
    for _ in engines.on_ray(ray, do_nothing, calls, dict(num_cpus=1)):
        pass


def measure(folder, n):
    "Scenes a second: read from the table, sized and sorted, handed out and taken back; and all of it."
    scenes, reading = timed(list_scenes, write_table(folder, n))
    job = MapJob(folder, folder, settings={}, warnings=[])
    with (
        patch.object(engines, "about_task", about_nothing),
        patch.object(engines, "map_task", do_nothing),
        engines.ray_cluster() as ray,
        engines.ray_engine("runs/none", None, None, {}) as engine,
    ):
        run_tasks(ray, [(k, ()) for k in range(200)])  # from here on workers have started
        _, sorting = timed(engines.largest_first, scenes, engine.settings)
        _, handing = timed(run_tasks, ray, [(name, (scene, folder, name)) for name, scene in scenes.items()])
        failed, whole = timed(engine.map_scenes, scenes, job)
    assert not failed, f"{len(failed)} tasks failed: {next(iter(failed.values()))}"
    return {
        "read": n / reading,
        "sorted": n / sorting,
        "scheduled": n / handing,
        "all": n / (reading + whole),
    }


def print_rates(n, rounds):
    title = f"{n:,} simulated scenes, tasks that do nothing, scenes a second"
    print(f"{title:<71}{'median':>9}  (range)")
    for what in rounds[0]:
        values = [rates[what] for rates in rounds]
        median, low, high = statistics.median(values), min(values), max(values)
        print(f"{what:<71}{median:>9.0f}  ({low:.0f} … {high:.0f})")
        record(f"{title}: {what}", ours=median, low=low, high=high, unit="scenes/s", rounds=len(values))


def print_meaning(rounds):
    "What the rates mean for the Arctic, and how many GPUs one caller can keep busy."
    rate, handed = (statistics.median(rates[key] for rates in rounds) for key in ("all", "scheduled"))
    few, many = (n / rate / 3600 for n in ARCTIC_TILES)
    least, most = (f"{n / 1e6:.0f}" for n in ARCTIC_TILES)
    print(f"{least} to {most} million tiles, each a task of its own, take one caller", end=" ")
    print(f"{few:.1f} to {many:.1f} hours ({1e3 / rate:.2f} ms each).")
    print(f"It can keep {handed / 10:.0f} GPUs busy with tiles of 0.1 s, {handed:.0f} with tiles of 1 s;")
    print("for more, scenes of many tiles, or chunks of the table and --merge.")


def main(args):
    rounds = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measure(Path(folder), args.scenes))
    print_rates(args.scenes, rounds)
    print_meaning(rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())
