"""Ours against libraries that do the same, as ratios: `.venv-bench/bin/python bench/peers.py [ROW ...]`.

torchmetrics  10⁷ pixels into a score histogram and PR-AUC at three ratios, against BinaryAveragePrecision on the same
              probabilities at one: exact, which keeps and sorts all of them, and with 200 thresholds. Ours has
              229,376 bins; torchmetrics goes over the pixels once for each threshold, so that as many would take hours
torchgeo      a tile of 512 px with its label, read and turned into float tensors, against RasterDataset: the same
              files, each drawn whole (PreChippedGeoSampler), and windows of 512 px drawn anywhere in rasters of 2048 px
              (RandomGeoSampler). torchgeo looks a window up in an index of the ground, merges what it finds there, and
              keeps files open; ours opens a file by its name and checks it for ground without data
pycocotools   from maps to matched objects on 64 maps of 512 px, against labelling, run-length encoding (the package's,
              which is faster than to encode a whole mask for each object) and COCOeval at one IoU. COCO lets a
              detection take its second choice where the first is taken; ours does not

Peers come from `make .venv-bench`; without it their rows are left out. Without a row, all of them: about eight minutes,
in which nothing else should run. Times are milliseconds.
"""

import contextlib
import importlib.util
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import compare, leave_out, print_header, print_verdict, seconds
from metrics import draw_scene, score, simulate_scores
from painted import PAINTED, SIZE, paint_tiles, tile_name
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rasterio.transform import from_origin

from rts_nb.scores.average_precision import region_rle
from rts_nb.scores.bins import N_BINS
from rts_nb.scores.objects import match_objects, objects_of
from rts_nb.tiles.layout import FOLDERS, read_tile, write_raster
from rts_nb.tiles.sample import paint, palette_of

PIXEL_TILES = 40  # 10⁷ pixels
THRESHOLDS = 200
MAPS, IOU = 64, 0.3
RASTERS, SIDE = 4, 2048  # of the windows that are drawn anywhere
BLOCKS = dict(compress="deflate", tiled=True, blockxsize=256, blockysize=256)


def is_missing(library):
    "Whether a library is not installed; its row is then left out."
    if importlib.util.find_spec(library):
        return False
    leave_out(library, "it is not installed; make bench installs it into .venv-bench")
    return True


# ---------------------------------------------------------------- PR-AUC


def bench_torchmetrics():
    if is_missing("torchmetrics"):
        return
    from torchmetrics.classification import BinaryAveragePrecision

    logits, labels = simulate_scores(PIXEL_TILES)
    probability = torch.sigmoid(torch.from_numpy(logits))
    target = torch.from_numpy(labels).int()

    def theirs(thresholds, batch=32):
        metric = BinaryAveragePrecision(thresholds=thresholds, validate_args=False)
        for k in range(0, len(target), batch):
            metric.update(probability[k : k + batch], target[k : k + batch])
        return metric.compute()

    def ours():
        return seconds(score, logits, labels)

    exact = compare(lambda: seconds(theirs, None), ours, rounds=5)
    print_verdict("torchmetrics, exact / histogram and 3 PR-AUC, 10⁷ px", exact, 1.0, at_most=False)
    binned = compare(lambda: seconds(theirs, THRESHOLDS), ours, rounds=5, warm=False)
    name = f"torchmetrics, {THRESHOLDS} thresholds / histogram and 3 PR-AUC, 10⁷ px"
    print_verdict(name, binned, 1.0, at_most=False)
    print(f"    ours has {N_BINS:,} bins")


# ---------------------------------------------------------------- reading


def write_rasters(folder):
    "Rasters with room for many windows, in blocks of 256 px: a painted tile and its label, over and over."
    for k in range(RASTERS):
        rng = np.random.default_rng(k)
        rgb, _, label = paint(rng, SIZE, SIZE, palette_of(rng), slumps=2)
        transform = from_origin(-1_500_000 + 20_000 * k, -1_200_000, 3, 3)
        for kind, pixels in (("rgb", rgb), ("label", label[None])):
            place = folder / FOLDERS[kind]
            place.mkdir(parents=True, exist_ok=True)
            repeated = np.tile(pixels, (1, SIDE // SIZE, SIDE // SIZE))
            write_raster(place / f"{tile_name(k)}.tif", repeated, transform, **BLOCKS)
    return folder


def raster_dataset(folder):
    "torchgeo's dataset of RGB and labels, with files kept open."
    from torchgeo.datasets import RasterDataset

    labels = type("Labels", (RasterDataset,), dict(is_image=False))
    return RasterDataset(folder / FOLDERS["rgb"]), labels(folder / FOLDERS["label"])


def read_ours(root, n):
    "As many tiles, as float32 and int64 tensors, the types that torchgeo returns."
    for k in range(n):
        tile = read_tile(root, tile_name(k % PAINTED))
        torch.from_numpy(tile["rgb"]).float()
        torch.from_numpy(tile["label"]).long()


def read_theirs(datasets, sampler):
    "All windows that a sampler draws, of every dataset."
    for query in sampler:
        for dataset in datasets:
            dataset[query]


def bench_torchgeo(repeats=4):
    if is_missing("torchgeo"):
        return
    from torchgeo.samplers import PreChippedGeoSampler, RandomGeoSampler

    n = repeats * PAINTED
    with tempfile.TemporaryDirectory() as name:
        root = paint_tiles(Path(name) / "tiles")
        tiles, rasters = raster_dataset(root), raster_dataset(write_rasters(Path(name) / "rasters"))
        prechipped = PreChippedGeoSampler(tiles[0], shuffle=True)
        anywhere = RandomGeoSampler(rasters[0], SIZE, length=n)

        def ours():
            return seconds(read_ours, root, n) / n

        def whole_tiles():
            return sum(seconds(read_theirs, tiles, prechipped) for _ in range(repeats)) / n

        def windows():
            return seconds(read_theirs, rasters, anywhere) / n

        for what, peer in (("the same tiles", whole_tiles), ("windows of rasters", windows)):
            measured = compare(ours, peer, rounds=7)
            print_verdict(f"read_tile / torchgeo, {what}, 512 px", measured, 1.0)
            print(f"    samples a second: {1 / measured.ours:.0f} and {1 / measured.peer:.0f}")


# ---------------------------------------------------------------- objects


def coco_objects(mask, image, scores=None):
    "The components of a mask as COCO's annotations; with a map of scores, each with its mean."
    objects = objects_of(mask)
    by_label = objects.inside[np.argsort(objects.at, kind="stable")]
    found = []
    for inside in np.split(by_label, np.cumsum(objects.area)[:-1]):
        own = dict(image_id=image, category_id=1, area=len(inside), iscrowd=0)
        own["segmentation"] = region_rle(inside, mask.shape)
        if scores is not None:
            own["score"] = float(scores.ravel()[inside].mean())
        found.append(own)
    return found


def coco_index(annotations):
    "COCO's index of annotations on MAPS images."
    index = COCO()
    index.dataset = dict(
        images=[dict(id=k, height=SIZE, width=SIZE) for k in range(MAPS)],
        annotations=[one | dict(id=number) for number, one in enumerate(annotations, 1)],
        categories=[dict(id=1)],
    )
    index.createIndex()
    return index


def annotate(maps):
    "True and found objects of all maps."
    truth, found = [], []
    for k, (probability, label) in enumerate(maps):
        truth += coco_objects(label == 1, k)
        found += coco_objects(probability >= 0.5, k, probability)
    return truth, found


def coco_matches(truth, found):
    "How many true objects pycocotools matches, without cutting off detections."
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco_index(truth), coco_index(found), "segm")
        evaluation.params.iouThrs = np.array([IOU])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [len(found)]
        evaluation.evaluate()
    return sum(int((image["gtMatches"] > 0).sum()) for image in evaluation.evalImgs if image)


def our_matches(maps):
    return sum(match_objects(*one, iou=IOU).tp for one in maps)


def bench_pycocotools():
    maps = [draw_scene(SIZE, 12, 0.03, seed) for seed in range(MAPS)]
    annotations = annotate(maps)

    def ours():
        return seconds(our_matches, maps)

    whole = compare(ours, lambda: seconds(lambda: coco_matches(*annotate(maps))), rounds=7)
    print_verdict(f"matching / pycocotools, {MAPS} maps of 512 px, from masks", whole, 1.0)
    matching = compare(ours, lambda: seconds(coco_matches, *annotations), rounds=7)
    print_verdict("matching from masks / pycocotools from encoded objects", matching, None)
    counts = f"{len(annotations[0])} true and {len(annotations[1])} found objects"
    print(f"    {counts}, matched: ours {our_matches(maps)}, pycocotools {coco_matches(*annotations)}")


ROWS = {
    "torchmetrics": bench_torchmetrics,
    "torchgeo": bench_torchgeo,
    "pycocotools": bench_pycocotools,
}

if __name__ == "__main__":
    print_header()
    for row in sys.argv[1:] or ROWS:
        ROWS[row]()
