"""Whether a round of hard negatives lowers false detections on fresh scenes: `python bench/hard_negatives.py OUT_DIR`.

A small network is trained on a generated dataset and looks at painted scenes that it has never seen. Their truth plays
the reviewer: what it detects there and is no slump becomes hard negatives, and version 2.1 of the dataset has a tile of
each. The same network, from the same seed, is trained on 2.1, and both are held against other fresh scenes. A third
arm (--random) adds as many tiles of the same scenes at random: is it the hard ones, or more tiles of any kind? False
detections are counted at equal recall of slumps (one counts as found where any pixel of it is detected). Writes
OUT_DIR/results.csv. The same command again goes on where it was cut off.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.features
import shapely
from rasterio.transform import Affine, from_origin

from rts_nb.predict.predictor import Predictor
from rts_nb.scores.objects import objects_of
from rts_nb.tiles.field_sample import make_field_sample
from rts_nb.tiles.layout import CRS, IGNORE, dataset_info, write_raster
from rts_nb.tiles.next_version import with_hard_negatives
from rts_nb.tiles.sample import paint, palette_of
from rts_nb.train import train

SIDE, PIXEL_M, TILE = 320, 3.0, 64
MIN_PIXELS = 34  # 300 m²
REVIEW_RECALL = 0.8  # of the map that is reviewed
RECALLS = (0.7, 0.8, 0.9)
OVERRIDES = (
    "data.source=tiles train.epochs={epochs} train.val_frequency={epochs} train.device=cpu data.root={root} "
    "loader.num_workers=0 model.architecture=unet data.tile_size={tile} predict.overlap=16"
)


class Scene(NamedTuple):
    "A painted scene and what is true of it."

    path: Path
    transform: Affine
    label: np.ndarray  # (H, W): 0, 1, 255


def paint_scenes(folder: Path, seed: int, n: int, first: int) -> list[Scene]:
    "Writes scenes with look-alikes, every second one with two slumps; `first` numbers their places."
    scenes = []
    for k in range(n):
        rng = np.random.default_rng([seed, 77, k])
        rgb, _, label = paint(rng, SIDE, SIDE, palette_of(rng), slumps=2 * (k % 2), lookalikes=8, margin=0.1)
        place = from_origin(2e6 + 40_000 * (first + k), -1.2e6, PIXEL_M, PIXEL_M)
        write_raster(folder / f"fresh_{k}.tif", rgb, place)
        scenes.append(Scene(folder / f"fresh_{k}.tif", place, label))
    return scenes


def logits_of(run: Path, scenes: list[Scene]) -> list[np.ndarray]:
    "Logits (H, W) of each scene."
    predictor = Predictor.from_dir(run)
    return [np.concatenate([strip for _, strip, _ in predictor.scene(scene.path)]) for scene in scenes]


def peaks_of_slumps(scenes: list[Scene], logits: list[np.ndarray]) -> np.ndarray:
    "The highest logit in each slump that is large enough."
    peaks = []
    for scene, logit in zip(scenes, logits, strict=True):
        slumps = objects_of(scene.label == 1)
        peaks += [logit[slumps.labels == k + 1].max() for k in np.flatnonzero(slumps.area >= MIN_PIXELS)]
    return np.array(peaks)


def threshold_at(peaks: np.ndarray, recall: float) -> float:
    "The logit that this share of slumps reaches."
    return float(np.sort(peaks)[::-1][int(np.ceil(recall * len(peaks))) - 1])


def false_detections(scene: Scene, logit: np.ndarray, threshold: float) -> list[np.ndarray]:
    "Masks (H, W) of the detections that touch neither a slump nor ignored ground."
    found = objects_of(logit >= threshold)
    masks = [found.labels == k + 1 for k in range(found.n)]
    known = (scene.label == 1) | (scene.label == IGNORE)
    return [mask for mask in masks if mask.sum() >= MIN_PIXELS and not (mask & known).any()]


def outline(mask: np.ndarray, transform: Affine) -> shapely.Geometry:
    "A mask as polygons in EPSG:3413."
    rings = rasterio.features.shapes(mask.astype("u1"), mask, transform=transform, connectivity=8)
    return shapely.union_all([shapely.geometry.shape(ring) for ring, _ in rings])


def write_judged(path: Path, shapes: list[shapely.Geometry]) -> None:
    "Writes places as hard_negatives.gpkg of a review has them."
    items = [f"i{k + 1:06d}" for k in range(len(shapes))]
    judged = dict(map="painted00000", sample="truth0000000", item=items, region="")
    gpd.GeoDataFrame(judged, geometry=shapes, crs=CRS).to_file(path)


def random_places(scenes: list[Scene], n: int, seed: int) -> list[shapely.Geometry]:
    "Discs of 30 m at random in scenes, off slumps."
    rng, places = np.random.default_rng(seed), []
    while len(places) < n:
        scene = scenes[rng.integers(len(scenes))]
        row, column = rng.integers(TILE // 2, SIDE - TILE // 2, 2)
        if scene.label[row, column] == 0:
            places.append(shapely.Point(scene.transform @ (column, row)).buffer(30))
    return places


def score(run: Path, scenes: list[Scene]) -> dict[str, int]:
    "False detections at each recall."
    logits = logits_of(run, scenes)
    peaks = peaks_of_slumps(scenes, logits)
    return {
        f"false at recall {recall}": sum(
            len(false_detections(scene, logit, threshold_at(peaks, recall)))
            for scene, logit in zip(scenes, logits, strict=True)
        )
        for recall in RECALLS
    }


def grow_version(out: Path, root: Path, arm: str, places: list, reviewed: list[Scene], truth: Path) -> Path:
    "Version 2.1 of a dataset with a tile for each of the places; as it is where it is there."
    if (out / arm).exists():
        return out / arm
    write_judged(out / f"{arm}.gpkg", places)
    scenes = str(reviewed[0].path.parent / "fresh_*.tif")
    return with_hard_negatives(root, str(out / f"{arm}.gpkg"), scenes, out / arm, polygons=str(truth), away=0.0)


def one_seed(out: Path, root: Path, seed: int, given: argparse.Namespace) -> list[dict]:
    "Rows of results of one seed: the first version, hard negatives and, if asked for, as many random ones."
    epochs, n_scenes = given.epochs, given.scenes
    reviewed = paint_scenes(out / "reviewed", seed, n_scenes, 0)
    fresh = paint_scenes(out / "fresh", seed + 1000, n_scenes, n_scenes)
    shapes = [outline(scene.label != 0, scene.transform) for scene in reviewed if scene.label.any()]
    truth = gpd.GeoDataFrame(geometry=shapes, crs=CRS)
    truth.assign(TrainClass="Positive").to_file(out / "truth.gpkg")

    def trained(dataset: Path, arm: str) -> Path:
        return train(
            "configs/sample.yaml", out / f"run-{arm}", OVERRIDES.format(epochs=epochs, root=dataset, tile=TILE), seed
        )

    first = trained(root, "first")
    logits = logits_of(first, reviewed)
    threshold = threshold_at(peaks_of_slumps(reviewed, logits), REVIEW_RECALL)
    false = [
        outline(mask, scene.transform)
        for scene, logit in zip(reviewed, logits, strict=True)
        for mask in false_detections(scene, logit, threshold)
    ]
    rows = [dict(seed=seed, arm="2.0", tiles=0) | score(first, fresh)]
    arms = {"hard": false} | ({"random": random_places(reviewed, len(false), seed)} if given.random else {})
    for arm, places in arms.items():
        grown = grow_version(out, root, arm, places, reviewed, out / "truth.gpkg")
        n_tiles = dataset_info(grown)["report"]["hard negative tiles"]
        rows.append(dict(seed=seed, arm=f"2.1 {arm}", tiles=n_tiles) | score(trained(grown, arm), fresh))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=24, help="that are reviewed, and as many that are counted")
    parser.add_argument("--random", action="store_true", help="a third arm: as many tiles at random")
    given = parser.parse_args()
    out = given.out_dir.resolve()
    out.mkdir(parents=True, exist_ok=True)
    root = out / "data"
    if not root.exists():
        make_field_sample(root, 42, TILE, 12, (120, 240), ratio=3)
    rows: list[dict] = []
    for seed in given.seeds:
        start = time.perf_counter()
        rows += one_seed(out / f"seed-{seed}", root, seed, given)
        table = pd.DataFrame(rows)
        table.to_csv(out / "results.csv", index=False)
        print(table.to_string(index=False), f"\n{time.perf_counter() - start:.0f} s", flush=True)
    print(pd.DataFrame(rows).drop(columns="seed").groupby("arm").mean().round(1).to_string())


if __name__ == "__main__":
    main()
