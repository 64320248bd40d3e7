"""What tests of inference share: a column of painted scenes, a calibrated model of random weights, and the command."""

import subprocess
import sys

import numpy as np
from programs import ROOT
from rasterio.transform import from_origin

from rts_nb.mapping.examples import calibrate_example, example_model
from rts_nb.mapping.rasters import cog_faults
from rts_nb.tiles.layout import write_raster
from rts_nb.tiles.sample import paint, palette_of

SIDE = 300  # pixels
PIXEL_M = 3
RASTERS = ("mask", "probability")


def start_infer(*arguments, **how):
    "`python -m rts_nb.infer`, started."
    command = [sys.executable, "-m", "rts_nb.infer", *map(str, arguments)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, **pipes, **how)


def start_map(place, out, *arguments, scenes=None, **how):
    "The command that maps scenes of a place (all of them, or those in another folder), started."
    scenes = scenes or place / "scenes"
    paths = ["--model-dir", place / "model", "--scenes", scenes, "--out-dir", out]
    return start_infer(*paths, *arguments, **how)


def make_place(place, rows, slumps):
    """Fills a folder with scenes/ and model/, and returns it.

    The scenes form a column in which they touch each other, `rows` sides high each. The model has random weights and a
    threshold that a fifth of the pixels reach.
    """
    rng = np.random.default_rng(5)
    rgb, *_ = paint(rng, sum(rows) * SIDE, SIDE, palette_of(rng), slumps=slumps)
    (place / "scenes").mkdir()
    top = 0
    for k, n in enumerate(rows):
        transform = from_origin(-2e6, -1e5 - PIXEL_M * top, PIXEL_M, PIXEL_M)
        write_raster(place / "scenes" / f"s{k}.tif", rgb[:, top : top + n * SIDE], transform)
        top += n * SIDE
    model = example_model(place / "model")
    calibrate_example(model, place / "scenes" / "s0.tif", share=0.2)
    return place


def copy_scenes(place, folder, names):
    "A new folder with some of the scenes of a place."
    folder.mkdir()
    for name in names:
        (folder / f"{name}.tif").write_bytes((place / "scenes" / f"{name}.tif").read_bytes())
    return folder


def cut_off(path):
    "Leaves the first half of a file."
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def unfinished_files(folder):
    "What a map's folder holds for the time of mapping only."
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


def assert_whole_rasters(folder):
    "A raster under its final name is whole."
    faults = {path.name: cog_faults(path) for path in folder.glob("*.tif")}
    assert not any(faults.values()), faults
