"""What it takes to finish a map, by the number of its scenes: `python bench/scale.py [--scenes 1000 10000]`.

Simulates maps of neighbouring scenes of 512 px with 1 to 50 detections each (12 on average), a tenth of them across a
border, writes the records and tables that inference writes (rasters are links to those of one mapped scene), and
finishes each map in a process of its own, as 40_infer does when the last scene is mapped. Maps of the numbers of
`--merged` are also made as two halves, each finished, and merged (`40_infer --merge`). Seconds, peak memory and
their growth (the slope of log seconds over log scenes) go to docs/scale.json and docs/scale.md. What reads across
borders finds no data, since a link shows the ground of another scene; pieces of detections are not cut. A map of
100,000 scenes (`--scenes 1000 10000 100000`) takes an hour or two on two cores.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from common import processor

from rts_nb.calibration.ensembles import calibration_of
from rts_nb.core.files import atomic, project_root, write_json
from rts_nb.core.jobs import progress
from rts_nb.infer import infer
from rts_nb.mapping.area_cells import CELL_KM
from rts_nb.mapping.examples import PIXEL, example_landscape, example_place, example_profile, paint_scene
from rts_nb.mapping.folder import MANIFEST, MapJob, lock_map
from rts_nb.mapping.log import MapClock, finish_map
from rts_nb.mapping.merging import merge_maps
from rts_nb.mapping.polygons import outline_columns, scene_layer
from rts_nb.mapping.records import record_path, scene_outputs
from rts_nb.tiles.layout import CRS

LEFT, TOP = -2e6, -1e5  # of the first scene, m
TILE = 512  # side of a scene, px
MOST_DETECTIONS = 50  # of a scene
ACROSS = 0.1  # of the detections, those that reach into the next scene
TEN_MILLION = 10_000_000  # tiles of the Arctic
TABLE = "docs/scale"
MOST_LINKS = 50_000  # to one file; ext4 takes 65,000


# ---------------------------------------------------------------- maps of many scenes


def real_scene(folder):
    "A model and its map of one scene: (model, map, record)."
    model, scenes = example_place(folder)
    write_json(model / "training_profile.json", example_profile(*example_landscape()))
    paint_scene(np.random.default_rng(0), scenes / "a.tif", TILE, TILE)
    infer(model, scenes / "a.tif", folder / "one")
    return model, folder / "one", json.loads(record_path(folder / "one", "a").read_text(encoding="utf-8"))


def shapes_at(corners, side):
    "Squares of pixels with their upper left corners, and round outlines in them, EPSG:3413."
    squares = shapely.box(corners[:, 0], corners[:, 1] - side, corners[:, 0] + side, corners[:, 1])
    return squares, shapely.buffer(shapely.centroid(squares), side / 2, quad_segs=3)


def detection_table(side=10 * PIXEL):
    "MOST_DETECTIONS detections around the origin, as inference writes them; places are added scene by scene."
    (square,), (outline,) = shapes_at(np.zeros((1, 2)), side)
    columns = outline_columns(shapely.affinity.translate(outline, LEFT, TOP), side**2)
    row = columns | dict(tile_ids="", cut_by="", date="2024-07-15", nodata_frac=0.0, pixel_m=PIXEL, n_pixels=100)
    row |= dict(detection_scale=1.0, mean_prob=0.8, max_prob=0.95, score=0.8, pixels=square, scene="", rts_id="")
    row |= dict(area_strict_m2=side**2 / 2, area_strictest_m2=side**2 / 4, member_spread=math.nan)
    return scene_layer([row] * MOST_DETECTIONS)


def scene_detections(table, name, n, bounds, rng):
    "The detections of a scene: apart from each other, some of them over its left or its right border."
    left, _, right, top = bounds
    k = np.arange(n)
    corners = np.stack([left + 90 + 190 * (k % 7) + rng.integers(0, 9, n), top - 60 - 180 * (k // 7)], 1)
    is_last, is_first = (k % round(1 / ACROSS) == side for side in (0, 1))
    corners[is_last, 0] = right - 30
    corners[is_first, 0] = left
    corners[:, 0] = np.round(corners[:, 0] / PIXEL) * PIXEL
    squares, outlines = shapes_at(corners, 10 * PIXEL)
    own = table.iloc[:n].assign(
        rts_id=[f"{name}-{i + 1:04d}" for i in k],
        scene=name,
        tile_ids=f"{name}_r0000_c0000",
        mean_prob=rng.uniform(0.5, 1, n),
    )
    own["pixels"] = gpd.GeoSeries(squares, crs=CRS)
    return own.set_geometry(gpd.GeoSeries(outlines, crs=CRS))


def scene_record(record, name, column, row, n):
    "The record of a scene at a place in the rows and columns of a map."
    height, width = record["rasters"]["shape"]
    left, top = LEFT + column * width * PIXEL, TOP - row * height * PIXEL
    transform = [PIXEL, 0, left, 0, -PIXEL, top]
    (piece, *values), *_ = record["expected_area"]["pieces"]
    place = [int(left // (1000 * CELL_KM)), int(top // (1000 * CELL_KM)), *piece[2:]]
    return record | dict(
        scene=name,
        date=f"2024-07-{1 + (column + row) % 28:02d}",
        region=f"region {row // 100}",
        rts=n,
        rasters=record["rasters"] | dict(transform=transform),
        expected_area=record["expected_area"] | dict(pieces=[[place, *values]]),
    )


def write_detections(path, found, metadata):
    "Writes a scene's detections as geopandas does, with the metadata that it gave those of another scene."
    shapes = {name: found[name].to_wkb() for name in ("geometry", "pixels")}
    table = pa.Table.from_pandas(pd.DataFrame(found).assign(**shapes), preserve_index=False)
    pq.write_table(table.replace_schema_metadata(metadata), path)


def make_map(out, one, record, n_scenes, part=slice(None), seed=0):
    "Writes the files of a map of scenes side by side, or of a part of them; the number of its detections."
    rng, table, in_all = np.random.default_rng(seed), detection_table(), 0
    (out / "parts").mkdir(parents=True)
    os.link(one / MANIFEST, out / MANIFEST)
    across, metadata = math.isqrt(n_scenes - 1) + 1, pq.read_schema(one / "parts" / "a.parquet").metadata
    height, width = record["rasters"]["shape"]
    linked: dict[str, str] = {}  # file of the example → its last copy
    for i, k in enumerate(progress(range(n_scenes)[part], f"{n_scenes:,} scenes", unit="scene")):
        name, (row, column) = f"s{k:07d}", divmod(k, across)
        n = int(math.exp(rng.uniform(0, math.log(MOST_DETECTIONS + 1))))
        own = scene_record(record, name, column, row, n)
        left, top = own["rasters"]["transform"][2], own["rasters"]["transform"][5]
        bounds = (left, top - height * PIXEL, left + width * PIXEL, top)
        found = scene_detections(table, name, n, bounds, rng)
        write_detections(out / "parts" / f"{name}.parquet", found, metadata)
        for there, here in zip(scene_outputs("a")[:2], scene_outputs(name)[:2], strict=True):
            if i % MOST_LINKS:
                os.link(out / linked[there], out / here)
            else:
                shutil.copy2(one / there, out / here)
                linked[there] = here
        record_path(out, name).write_text(json.dumps(own), encoding="utf-8")
        in_all += n
    return in_all


# ---------------------------------------------------------------- finishing one of them


def held_mb():
    "The most memory that this process has held, MB; ru_maxrss would start at what its parent held."
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no line VmHWM; peak memory is read on Linux only")


def measured(work, out):
    "Calls what finishes a map, and prints what that took as JSON."
    before, start, cpu = held_mb(), time.perf_counter(), time.process_time()
    log = work()
    took = dict(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu)
    took |= dict(peak_mb=held_mb(), before_mb=before)
    files = ("rts.parquet", "rts.gpkg", "items.parquet", "mosaic.gti.gpkg", "inference_log.json")
    sizes = {name: (out / name).stat().st_size for name in files}
    print(json.dumps(took | dict(scenes=log["scenes_done"], slumps=log["rts"], bytes=sizes)))


def finish(out, model):
    "Finishes a map from the files of its scenes; the content of its log."
    settings = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    with lock_map(out) as work:
        return finish_map(MapJob(out, work, settings, []), model, calibration_of(model), {}, MapClock(), [])


def in_another_process(*arguments):
    "What this program prints last with these arguments, read as JSON."
    command = [sys.executable, __file__, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr[-2000:])
    return json.loads(ended.stdout.splitlines()[-1])


def measure(n_scenes, model, one, record, folder):
    "Makes a map, finishes it in another process, and gives what that took."
    out = folder / f"map{n_scenes}"
    detections = make_map(out, one, record, n_scenes)
    took = in_another_process("--finish", out, model)
    shutil.rmtree(out)
    return took | dict(detections=detections)


def measure_merge(n_scenes, model, one, record, folder):
    "Makes and finishes the halves of a map, merges them in another process, and gives what that took."
    halves = {folder / "upper": slice(n_scenes // 2), folder / "lower": slice(n_scenes // 2, None)}
    detections = sum(make_map(out, one, record, n_scenes, part) for out, part in halves.items())
    for out in halves:
        in_another_process("--finish", out, model)
    took = in_another_process("--merge", folder / "both", model, *halves)
    for out in (*halves, folder / "both"):
        shutil.rmtree(out)
    return took | dict(detections=detections)


# ---------------------------------------------------------------- what it means


def slopes(rows, key):
    "The growth of a figure between rows: 1 is as the number of scenes, 0 not at all."
    pairs = zip(rows, rows[1:], strict=False)
    return [math.log(b[key] / a[key]) / math.log(b["scenes"] / a["scenes"]) for a, b in pairs]


def map_table(rows):
    "The table of maps as Markdown."
    lines = [
        "| scenes | detections | slumps | seconds | of CPU | CPU ms a scene | peak MB | of it before | MB of items |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = f"{row['peak_mb']:.0f} | {row['before_mb']:.0f} | {row['bytes']['items.parquet'] / 1e6:.1f}"
        counts = f"{row['scenes']:,} | {row['detections']:,} | {row['slumps']:,}"
        per_scene = 1000 * row["cpu_seconds"] / row["scenes"]
        pace = f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {per_scene:.1f}"
        lines.append(f"| {counts} | {pace} | {sizes} |")
    return "\n".join(lines)


def what_it_means(rows):
    "Sentences on the growth, and on ten million tiles; empty before a map was finished."
    if not rows:
        return ""
    last = rows[-1]
    rate = last["cpu_seconds"] / last["scenes"]
    grown = ""
    if len(rows) > 1:
        first = rows[0]
        a_scene = (last["peak_mb"] - first["peak_mb"]) * 1e6 / (last["scenes"] - first["scenes"])
        seconds = ", ".join(f"{slope:.2f}" for slope in slopes(rows, "cpu_seconds"))
        memory = ", ".join(f"{slope:.2f}" for slope in slopes(rows, "peak_mb"))
        grown = (
            f"CPU seconds grow with the power {seconds} of the number of scenes, peak memory with {memory}; between the"
            f" smallest and the largest map it grows by {a_scene:,.0f} bytes a scene."
        )
    held = (
        "Held for each scene are its name, its grid as twelve numbers, its box in the search tree, and its own ground."
        " Records, detections and items are read and written some at a time."
    )
    hours = rate * TEN_MILLION / 3600
    million = (
        f"Ten million tiles, each as a scene of its own, would take {hours:,.0f} CPU hours of finishing at this pace if"
        " all were one folder, where the names and grids alone would take gigabytes. They are mapped in chunks of a"
        " region instead, some ten to a hundred thousand tiles each, in folders and on machines of their own;"
        " `--merge` makes maps of regions of the chunks, and one map of those. Each level is finished again from"
        " records, so that three levels cost three times the seconds of one, a small part of what predicting takes."
    )
    return "\n\n".join(filter(None, [grown, held, million]))


def merge_account(rows):
    "What merging two halves took, as Markdown; empty where nothing was merged."
    if not rows:
        return ""
    words = (
        "Two halves of a map, each finished before, were merged (`40_infer --merge`): this links the files of their"
        " scenes and finishes the whole from its records."
    )
    grown = f" CPU seconds grow with the power {slopes(rows, 'cpu_seconds')[-1]:.2f}." if len(rows) > 1 else ""
    return f"## Merging\n\n{words}{grown}\n\n{map_table(rows)}\n"


def write_page(found):
    "Writes docs/scale.json and docs/scale.md."
    write_json(project_root() / f"{TABLE}.json", found)
    text = f"""# Finishing large maps

`python bench/scale.py` simulates maps of neighbouring scenes with 1 to 50 detections each and finishes them: reads the
records, unites slumps across scenes, writes layers, expected area, index, STAC items and log. Rasters are links to
those of one small scene, so that predicting and the size of imagery are no part of it.

Measured on {found["machine"]}. {found["beside"]}

{map_table(found["maps"])}

{what_it_means(found["maps"])}

{merge_account(found["merged"])}"""
    with atomic(project_root() / f"{TABLE}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def main():
    "Measures maps of the numbers of scenes that were asked for."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", nargs="+", type=int, default=[1000, 10_000], help="scenes of each map")
    parser.add_argument("--merged", nargs="*", type=int, default=[1000, 4000], help="scenes of each merged map")
    parser.add_argument("--beside", default="", help="a sentence on what else ran on the machine")
    parser.add_argument("--finish", nargs=2, metavar=("MAP", "MODEL"), help=argparse.SUPPRESS)
    parser.add_argument("--merge", nargs=4, metavar=("OUT", "MODEL", "PART", "PART"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.finish:
        out, model = map(Path, given.finish)
        measured(lambda: finish(out, model), out)
        return
    if given.merge:
        out, model, *parts = map(Path, given.merge)
        measured(lambda: merge_maps(parts, out, model), out)
        return
    with tempfile.TemporaryDirectory() as place:
        example = real_scene(Path(place) / "example")
        found: dict = dict(machine=f"{processor()}, {os.cpu_count()} cores", beside=given.beside, maps=[], merged=[])
        kinds = ((measure_merge, given.merged, "merged"), (measure, given.scenes, "maps"))
        for take, sizes, kind in kinds:
            for n in sorted(sizes):
                found[kind].append(take(n, *example, Path(place)))
                write_page(found)  # also of what is there before the largest map is finished


if __name__ == "__main__":
    main()
