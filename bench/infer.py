"""What a map costs, as ratios in one run: `python bench/infer.py [plain] [overhead] [monai] [host] [memory] [--side 4096] [--model-dir runs/sample/seed-42] [--config configs/baseline.yaml]`.

plain     the whole of inference (read, predict, merge, write, vectorise) at the model's precision against the plain fp32 forward passes of segmentation-models-pytorch over the same windows
overhead  the whole against the forward passes of its network at the same precision and batches: bare, each layer shared out among all cores, and as the predictor does them, each batch shared out
monai     the predictor on a scene in memory against MONAI's sliding-window inferer on the same array, network, overlap and batch: at equal precision, and at ours against its fp32
          (the network as the predictor has it, folded and channels last, and as segmentation-models-pytorch builds it)
host      the whole, of 16 scenes, against a network that only waits, 15 ms for a window of 512 px: what is left of reading, merging and writing when another device does the passes
memory    peak memory on a scene of four times the side against one of --side (needs 4 GB of disk and the time of 17 scenes)
--config takes the network, tile size and overlap of a config, 8 windows at a time, with random weights and a threshold that nothing reaches, for what it costs alone.
MONAI belongs to the bench alone: `pip install --no-deps --target FOLDER monai`, and FOLDER on PYTHONPATH; without it that row is left out.
Layers that all cores share are fastest where cores wait for each other by spinning, which is OpenMP's way unless told otherwise (the Makefile tells it otherwise, for the sake of
other processes); so that peers show what they can, this runs with it, alone. Nothing else should run meanwhile. The model must be trained and calibrated (`make demo`). Times are seconds; --rounds 1 does without the round before, which does not count.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import rasterio
import torch
from common import compare, peak_mb, seconds, summary, verdict
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from safetensors.torch import save_file

from rts_nb.core.files import resolve
from rts_nb.infer import infer
from rts_nb.networks.models import build_model
from rts_nb.networks.precision import run_on_teams
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.views import TTA_VIEWS, signature
from rts_nb.predict.windows import window_starts
from rts_nb.settings.config import load_config, save_config
from rts_nb.tiles.layout import CRS
from rts_nb.tiles.sample import paint, palette_of
from rts_nb.tiles.statistics import normalize

PATTERN, ROWS = 1024, ["plain", "overhead", "monai", "host", "memory"]


def pattern(size=PATTERN):
    rng = np.random.default_rng(0)
    return paint(rng, size, size, palette_of(rng), slumps=8)[0]


def write_scene(path, side):
    "A painted scene of side x side pixels, written strip by strip."
    block = pattern()
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=side,
        width=side,
        dtype="uint8",
        crs=CRS,
        transform=from_origin(-2e6, -1e5, 3, 3),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="LZW",
    ) as f:
        for top in range(0, side, PATTERN):
            h = min(PATTERN, side - top)
            f.write(
                np.tile(block[:, :h], (1, 1, -(-side // PATTERN)))[:, :, :side],
                window=rasterio.windows.Window(0, top, side, h),
            )
    return path


def batches(cfg, side):
    "How many windows each forward pass over a scene has."
    n = len(window_starts(side, cfg.tile_size, cfg.overlap)) ** 2
    return (
        ([cfg.batch_size] * (n // cfg.batch_size) + [n % cfg.batch_size] * (n % cfg.batch_size > 0))
        * len(cfg.scales)
        * len(TTA_VIEWS[cfg.tta])
    )


def untrained(config, calibrated, folder):
    "The model directory of a network with random weights, calibrated as another, whose map is empty."
    (folder := Path(folder)).mkdir()
    cfg = load_config(
        config, "model.encoder_weights=null data.extra_channels=[] predict.batch_size=8"
    )  # plain fp32 passes of more would not fit into memory
    save_config(cfg, folder / "config.yaml")
    save_file(build_model(cfg.model, None).state_dict(), folder / "model.safetensors")
    for name in ("normalization_stats.json", "training_profile.json"):
        shutil.copy(resolve(calibrated) / name, folder)
    calibration = json.loads((resolve(calibrated) / "calibration.json").read_text())
    for entry in calibration["thresholds"].values():
        entry["threshold"] = 2.0
    (folder / "calibration.json").write_text(
        json.dumps(calibration | dict(predictor=signature(Predictor.from_dir(folder).settings)))
    )
    return folder


def passes(network, x, sizes):
    "Forward passes of so many batches, of one and the same content."
    with torch.inference_mode():
        for n in sizes:
            network(x[:n])


def whole(args, folder):
    "Inference into a folder of its own."
    out = tempfile.mkdtemp(dir=folder)
    infer(args.model_dir, f"{folder}/scene.tif", out)


def normalized(predictor, n):
    "A batch as the network gets it."
    size, block = predictor.settings.tile_size, pattern()
    return normalize(torch.as_tensor(np.stack([block[:, :size, k : k + size] for k in range(n)])), predictor.stats)


def in_rounds(args, ours, peer):
    "Both side by side, --rounds times."
    return compare(ours, peer, rounds=args.rounds, warm=args.rounds > 1)


def plain(args, folder, predictor):
    model = build_model(load_config(resolve(args.model_dir) / "config.yaml").model, None).eval()
    x, sizes = normalized(predictor, predictor.settings.batch_size), batches(predictor.settings, args.side)
    verdict(
        "plain fp32 passes / whole inference",
        in_rounds(args, lambda: seconds(passes, model, x, sizes), lambda: seconds(whole, args, folder)),
        2.5,
        at_most=False,
        unit=1,
    )


def overhead(args, folder, predictor):
    x, sizes = (
        normalized(predictor, predictor.settings.batch_size).contiguous(memory_format=torch.channels_last),
        batches(predictor.settings, args.side),
    )
    network = lambda part: autocast(predictor, part)
    for name, one in {
        "bare passes": network,
        "the predictor's passes": lambda part: run_on_teams(network, part, predictor.teams, predictor.cores),
    }.items():
        verdict(
            f"whole inference / {name}, {predictor.precision}",
            in_rounds(args, lambda: seconds(whole, args, folder), lambda: seconds(passes, one, x, sizes)),
            1.08,
            unit=1,
        )


def autocast(predictor, x):
    "The network alone, at the predictor's precision."
    half = predictor.precision != "fp32"
    with torch.autocast(
        predictor.device.type, torch.bfloat16 if predictor.precision != "fp16" else torch.float16, enabled=half
    ):
        return predictor.model(x)


def monai(args, folder, predictor):
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return print("MONAI is not installed: its row is left out")
    if signature(predictor.settings)["scales"] != [1.0] or predictor.settings.tta != "none":
        return print("MONAI has neither scales nor views: its rows need a model calibrated without")
    with rasterio.open(f"{folder}/scene.tif") as f:
        picture, profile = f.read(), f.profile
    fp32, model, array = (
        Predictor.from_dir(args.model_dir, precision="fp32"),
        build_model(load_config(resolve(args.model_dir) / "config.yaml").model, None).eval(),
        torch.as_tensor(picture[None]).float(),
    )  # MONAI adds up in the type of its input
    with MemoryFile() as memory:
        with memory.open(**profile | dict(compress=None)) as f:
            f.write(picture)

        def ours(which):
            return lambda: seconds(lambda: [None for _ in which.scene(memory.name)])

        def theirs(which, network=None):
            cfg = which.settings
            network = network or (
                lambda x: autocast(
                    which, normalize(x, which.stats).contiguous(memory_format=torch.channels_last)
                ).float()
            )

            def run():
                with torch.inference_mode():
                    sliding_window_inference(
                        array,
                        cfg.tile_size,
                        cfg.batch_size,
                        network,
                        overlap=cfg.overlap / cfg.tile_size,
                        mode="gaussian",
                    )

            return lambda: seconds(run)

        verdict(
            f"predictor / MONAI, both {predictor.precision}",
            in_rounds(args, ours(predictor), theirs(predictor)),
            1.0,
            unit=1,
        )
        verdict("predictor / MONAI, both fp32", in_rounds(args, ours(fp32), theirs(fp32)), 1.0, unit=1)
        verdict(
            f"MONAI fp32 / predictor {predictor.precision}",
            in_rounds(args, theirs(fp32), ours(predictor)),
            2.0,
            at_most=False,
            unit=1,
        )
        verdict(
            f"MONAI fp32, network as built / predictor {predictor.precision}",
            in_rounds(args, theirs(fp32, lambda x: model(normalize(x, fp32.stats))), ours(predictor)),
            2.0,
            at_most=False,
            unit=1,
        )


def host(args, folder, predictor):
    model, scenes, busy, one = (
        untrained("configs/baseline.yaml", args.model_dir, f"{folder}/waiting"),
        Path(folder) / "many",
        [],
        threading.Lock(),
    )
    scenes.mkdir()
    for k in range(16):
        (scenes / f"{k}.tif").symlink_to(f"{folder}/scene.tif")
    logits = torch.rand(32, 1, 512, 512) - 5

    def wait(predictor, x):
        with one:
            busy.append(seconds(time.sleep, 0.015 * len(x)))
        return logits[: len(x)]

    def run():
        busy.clear()
        with patch.object(Predictor, "_forward", wait), tempfile.TemporaryDirectory(dir=folder) as out:
            return seconds(infer, model, scenes, out)

    verdict(
        "whole inference of 16 scenes / a network that only waits",
        summary([(run(), sum(busy)) for _ in range(args.rounds)]),
        1.08,
        unit=1,
    )


def memory(args, folder, predictor):
    peaks = {}
    for side in (args.side, 4 * args.side):
        path, out = write_scene(f"{folder}/scene_{side}.tif", side), tempfile.mkdtemp(dir=folder)
        peaks[side] = peak_mb(f"from rts_nb.infer import infer; infer({str(args.model_dir)!r}, {str(path)!r}, {out!r})")
    small, large = peaks.values()
    print(
        f"{f'peak memory (MiB), {4 * args.side} px / {args.side} px':<60}{large:>10.0f}{small:>10.0f}{large / small:>8.2f}  at most 1.2 and 3072 MiB: {'met' if large <= 1.2 * small and large < 3072 else 'MISSED'}"
    )


if __name__ == "__main__":
    if os.environ.pop("OMP_WAIT_POLICY", None):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # it counts when the libraries are loaded
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=ROWS)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model-dir", default="runs/sample/seed-42")
    parser.add_argument("--config")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.config:
            args.model_dir = untrained(args.config, args.model_dir, f"{folder}/untrained")
        predictor = Predictor.from_dir(args.model_dir)
        print(f"{'':<60}{'ours':>10}{'peer':>10}{'ratio':>8}")
        write_scene(Path(folder) / "scene.tif", args.side)
        for row in args.rows:
            globals()[row](args, folder, predictor)
