"""How time and memory grow, as log-log slopes by least squares: `python bench/growth.py [ROW ...]`.

tiles    statistics of a dataset, 512 px a tile
pixels   a score histogram fed 512 x 512 pixels at a time, and its PR-AUC
objects  matching objects on 2048 x 2048 pixels, 3 % of them true
scene    inference of one scene, against its pixels, with a small network of random weights
scenes   finishing a map: not run here, but read from docs/scale.json, which `bench/scale.py` writes

Each size runs in a process of its own, forked from this one, which imports and computes nothing: the median seconds of
three calls (of one for a scene), and the peak memory beyond that of such a process that does nothing. A slope of 1 is
linear, of 0 is constant. What a call costs whatever the size makes a slope flatter. Without a row, all of them: about
four minutes on two free cores, in which nothing else should run.
"""

import functools
import json
import statistics
import sys
import tempfile
from pathlib import Path

from common import cost_of, is_met, log_slope, met_or_missed, record, seconds
from infer import write_scene
from metrics import draw_scene, score, simulate_scores
from painted import paint_tiles, repeat_tiles
from scale import real_scene

from rts_nb.core.files import project_root
from rts_nb.infer import infer
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.scores.objects import match_objects
from rts_nb.tiles.statistics import compute_stats

CALLS = 3
LINEAR, STREAMS = 1.1, 0.2  # the steepest slopes of seconds, and of memory where data are read piece by piece
TILE_COUNTS = (25, 100, 400)
PIXEL_COUNTS = (4, 16, 64)  # of 512 x 512 pixels
OBJECT_COUNTS, OBJECT_SIDE = (250, 1000, 4000), 2048
SCENE_SIDES = (1024, 2048, 4096)


# ---------------------------------------------------------------- what runs in a process of its own; returns seconds


def only_imports():
    return 0.0


def median_seconds(function, *args):
    "Of a few calls."
    return statistics.median(seconds(function, *args) for _ in range(CALLS))


def of_tiles(root, n):
    return median_seconds(compute_stats, root, repeat_tiles(root, n))


def of_pixels(n):
    "Seconds of counting alone: the same pixels are given again and again, and never held together."
    logits, labels = simulate_scores(8)
    score(logits, labels)

    def count():
        histogram = ScoreHistogram()
        for k in range(n):
            histogram.add(logits[k % 8][None], labels[k % 8][None])
        histogram.pr_auc()

    return median_seconds(count)


def of_objects(n):
    return median_seconds(match_objects, *draw_scene(OBJECT_SIDE, n, 0.03))


def of_scene(model, scene, folder):
    "Of one call, since the largest takes a minute."
    return seconds(infer, model, scene, tempfile.mkdtemp(dir=folder))


# ---------------------------------------------------------------- slopes


def print_slope(row, unit, against, points, limit):
    "Prints and records the slope of [(size, value), …]; one that cannot be told where memory does not grow at all."
    sizes, values = zip(*points, strict=True)
    slope = log_slope(sizes, values)
    met = is_met(slope, limit, at_most=True)
    wanted = "" if met is None else f"at most {limit:<5}{met_or_missed(met)}"
    listed = "  ".join(f"{value:,.3g}" for value in values)
    print(f"{row:<48}{listed:>34} {unit:<4}slope {slope:>6.2f}  {wanted}", flush=True)
    told = dict(unit=unit, against=against, points=points, limit=limit, at_most=True, met=met)
    record(row, slope=slope, **told)


in_process = functools.partial(cost_of, start="fork")  # its result and its peak memory


@functools.cache
def libraries_mib():
    "Peak memory of a process that only holds the libraries."
    return in_process(only_imports)[1]


def grow(row, against, sizes, runs, limit):
    "Slopes of seconds and memory, of calls (function, arguments) in processes of their own, one of each size."
    costs = [in_process(*run) for run in runs]
    print_slope(f"time of {row}", "s", against, list(zip(sizes, [cost[0] for cost in costs], strict=True)), LINEAR)
    beyond = [max(peak - libraries_mib(), 1.0) for _, peak in costs]  # MiB; below one, nothing can be told apart
    print_slope(f"memory of {row}", "MiB", against, list(zip(sizes, beyond, strict=True)), limit)


def grow_tiles(folder):
    root, _ = in_process(paint_tiles, folder / "tiles")
    grow("statistics", "tiles", TILE_COUNTS, [(of_tiles, root, n) for n in TILE_COUNTS], STREAMS)


def grow_pixels(folder):
    pixels = [512 * 512 * n for n in PIXEL_COUNTS]
    grow("a score histogram", "pixels", pixels, [(of_pixels, n) for n in PIXEL_COUNTS], STREAMS)


def grow_objects(folder):
    grow("matching objects", "objects", OBJECT_COUNTS, [(of_objects, n) for n in OBJECT_COUNTS], STREAMS)


def grow_scene(folder):
    (model, *_), _ = in_process(real_scene, folder / "example")
    runs = []
    for side in SCENE_SIDES:
        scene, _ = in_process(write_scene, f"{folder}/scene_{side}.tif", side)
        runs.append((of_scene, model, scene, folder))
    grow("inference of a scene", "pixels", [side**2 for side in SCENE_SIDES], runs, None)


def grow_scenes(folder):
    "Of the figures that docs/scale.json holds, whichever sizes these are."
    maps = json.loads((project_root() / "docs/scale.json").read_text(encoding="utf-8"))["maps"]
    row = "finishing a map (docs/scale.json)"
    times = [(one["scenes"], one["cpu_seconds"]) for one in maps]
    print_slope(f"CPU time of {row}", "s", "scenes", times, LINEAR)
    print_slope(
        f"memory of {row}, libraries included", "MB", "scenes", [(m["scenes"], m["peak_mb"]) for m in maps], STREAMS
    )


ROWS = {
    "tiles": grow_tiles,
    "pixels": grow_pixels,
    "objects": grow_objects,
    "scene": grow_scene,
    "scenes": grow_scenes,
}

if __name__ == "__main__":
    for row in sys.argv[1:] or ROWS:
        with tempfile.TemporaryDirectory() as name:
            ROWS[row](Path(name))
