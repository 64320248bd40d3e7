"""What a map costs, as ratios in one run: `python bench/infer.py [ROW ...] [--side 4096] [--rounds 5]`.

plain     the whole of inference (read, predict, merge, write, vectorise) at the model's precision against the plain
          fp32 forward passes of segmentation-models-pytorch over the same windows
overhead  the whole against the forward passes of its network at the same precision and batches: bare, each layer shared
          by all cores, and as the predictor does them, each batch shared by teams of cores
monai     the predictor on a scene in memory against MONAI's sliding-window inferer on the same array, network, overlap
          and batch: at equal precision, and at ours against its fp32 (the network as the predictor has it, folded and
          channels last, and as segmentation-models-pytorch builds it)
host      the whole, of 64 scenes, against a network that only waits, 4 ms for a window of 512 px, which a GPU for
          training needs: what is left of reading, merging and writing when another device does the passes. Without a
          GPU the merging is the host's too. CPU time a window says how many cores that takes
memory    peak memory on a scene of four times the side against one of --side (needs 4 GB of disk and the time of 17
          scenes)

--model-dir names a trained and calibrated model (`make demo` makes the default one). --config takes the network, tile
size and overlap of a config instead, 8 windows at a time, with random weights and a threshold that nothing reaches.
MONAI belongs to the bench alone: `make .venv-bench` installs it, and .venv-bench/bin/python runs this; without it that
row is left out. Layers that all cores share are fastest where cores wait for each other by spinning, which is
OpenMP's way unless told otherwise. The Makefile tells it otherwise, for the sake of other processes; this runs with it,
so that peers show what they can. Nothing else should run meanwhile. Times are seconds; --rounds 1 leaves out the round
before, which does not count.
"""

import argparse
import functools
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
from common import compare, leave_out, once, peak_mb, print_header, print_verdict, seconds, summarize
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from rts_nb.core.files import resolve
from rts_nb.infer import infer
from rts_nb.networks.models import build_model, save_weights
from rts_nb.networks.precision import run_on_teams
from rts_nb.predict import predictor as predictor_module
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.views import TTA_VIEWS, signature
from rts_nb.predict.windows import window_starts
from rts_nb.settings.config import load_config, save_config
from rts_nb.tiles.layout import CRS
from rts_nb.tiles.sample import paint, palette_of
from rts_nb.tiles.statistics import normalize

PATTERN = 1024  # pixels, side of what a scene repeats
WAITING_SCENES, WAITING_SECONDS = 64, 0.004  # of the network that only waits: scenes, and for a window


def pattern():
    rng = np.random.default_rng(0)
    return paint(rng, PATTERN, PATTERN, palette_of(rng), slumps=8)[0]


def write_scene(path, side):
    "A painted scene of side x side pixels, written strip by strip."
    block = pattern()
    profile = dict(driver="GTiff", count=3, dtype="uint8", tiled=True, blockxsize=256, blockysize=256, compress="LZW")
    grid = dict(height=side, width=side, crs=CRS, transform=from_origin(-2e6, -1e5, 3, 3))
    with rasterio.open(path, "w", **profile, **grid) as f:
        for top in range(0, side, PATTERN):
            height = min(PATTERN, side - top)
            strip = np.tile(block[:, :height], (1, 1, -(-side // PATTERN)))[:, :, :side]
            f.write(strip, window=rasterio.windows.Window(0, top, side, height))
    return path


def batch_sizes(settings, side):
    "How many windows each forward pass over a scene has."
    n_windows = len(window_starts(side, settings.tile_size, settings.overlap)) ** 2
    full, rest = divmod(n_windows, settings.batch_size)
    sizes = [settings.batch_size] * full
    if rest:
        sizes.append(rest)
    return sizes * len(settings.scales) * len(TTA_VIEWS[settings.tta])


def untrained_model(config, calibrated, folder, batch=8):
    "The model directory of a network with random weights, calibrated as another, whose map is empty."
    folder.mkdir()
    # 8: plain fp32 passes of more windows would not fit into memory
    cfg = load_config(config, f"model.encoder_weights=null data.extra_channels=[] predict.batch_size={batch}")
    save_config(cfg, folder / "config.yaml")
    save_weights(build_model(cfg.model, None), folder / "model.safetensors")
    for name in ("normalization_stats.json", "training_profile.json"):
        shutil.copy(resolve(calibrated) / name, folder)
    calibration = json.loads((resolve(calibrated) / "calibration.json").read_text(encoding="utf-8"))
    for entry in calibration["thresholds"].values():
        entry |= dict(threshold=1.0, logit=100.0)  # that nothing reaches
    calibration["predictor"] = signature(Predictor.from_dir(folder).settings)
    (folder / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    return folder


def built_network(args):
    "The network as segmentation-models-pytorch builds it, with random weights."
    return build_model(load_config(resolve(args.model_dir) / "config.yaml").model, None).eval()


def forward_passes(network, x, sizes):
    "Forward passes of so many batches, of one and the same content."
    with torch.inference_mode():
        for n in sizes:
            network(x[:n])


def whole_inference(args, folder):
    "Inference into a folder of its own."
    infer(args.model_dir, f"{folder}/scene.tif", tempfile.mkdtemp(dir=folder))


def normalized_batch(predictor):
    "A full batch as the network gets it."
    settings, block = predictor.settings, pattern()
    size = settings.tile_size
    windows = [block[:, :size, k : k + size] for k in range(settings.batch_size)]
    return normalize(torch.as_tensor(np.stack(windows)), predictor.stats)


def half_precision_pass(predictor, x):
    "The network alone, at the predictor's precision."
    dtype = torch.float16 if predictor.precision == "fp16" else torch.bfloat16
    with torch.autocast(predictor.device.type, dtype, enabled=predictor.precision != "fp32"):
        return predictor.model(x)


def in_rounds(args, ours, peer):
    "Both side by side, --rounds times."
    return compare(ours, peer, rounds=args.rounds, warm=args.rounds > 1)


def bench_plain(args, folder, predictor):
    network = built_network(args)
    x, sizes = normalized_batch(predictor), batch_sizes(predictor.settings, args.side)

    def plain():
        return seconds(forward_passes, network, x, sizes)

    def whole():
        return seconds(whole_inference, args, folder)

    measured = in_rounds(args, plain, whole)
    print_verdict("plain fp32 passes / whole inference", measured, 2.5, at_most=False, unit="s")


def bench_overhead(args, folder, predictor):
    x = normalized_batch(predictor).contiguous(memory_format=torch.channels_last)
    sizes = batch_sizes(predictor.settings, args.side)
    bare = functools.partial(half_precision_pass, predictor)

    def on_teams(part):
        return run_on_teams(bare, part, predictor.teams, predictor.cores)

    def whole():
        return seconds(whole_inference, args, folder)

    against_bare = in_rounds(args, whole, lambda: seconds(forward_passes, bare, x, sizes))
    print_verdict(f"whole inference / bare passes, {predictor.precision}", against_bare, 1.08, unit="s")
    against_teams = in_rounds(args, whole, lambda: seconds(forward_passes, on_teams, x, sizes))
    print_verdict(f"whole inference / the predictor's passes, {predictor.precision}", against_teams, 1.08, unit="s")


def normalized_pass(predictor, x):
    "From raw windows to logits: what MONAI calls for the predictor's network."
    x = normalize(x, predictor.stats).contiguous(memory_format=torch.channels_last)
    return half_precision_pass(predictor, x).float()


def predict_scene(predictor, path):
    for _ in predictor.scene(path):
        pass


def read_into_memory(path, memory):
    "Writes a scene uncompressed into memory; returns its name there and its pixels."
    with rasterio.open(path) as f:
        pixels, profile = f.read(), f.profile
    with memory.open(**(profile | dict(compress=None))) as f:
        f.write(pixels)
    return memory.name, pixels


def bench_monai(args, folder, predictor):
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        leave_out("predictor / MONAI", "MONAI is not installed; make bench installs it into .venv-bench")
        return
    settings = predictor.settings
    if signature(settings)["scales"] != [1.0] or settings.tta != "none":
        leave_out("predictor / MONAI", "MONAI has neither scales nor views; it needs a model calibrated without")
        return
    with MemoryFile() as memory:
        scene, pixels = read_into_memory(f"{folder}/scene.tif", memory)
        array = torch.as_tensor(pixels[None]).float()  # MONAI adds up in the type of its input

        @torch.inference_mode()
        def slide(network):
            size, overlap = settings.tile_size, settings.overlap / settings.tile_size
            sliding_window_inference(array, size, settings.batch_size, network, overlap=overlap, mode="gaussian")

        compare_with_monai(args, predictor, scene, slide)


def compare_with_monai(args, predictor, scene, slide):
    "The predictor on a scene against `slide`, MONAI's inferer of a network on the same pixels."
    fp32, built = Predictor.from_dir(args.model_dir, precision="fp32"), built_network(args)
    precision = predictor.precision

    def as_built(x):
        return built(normalize(x, fp32.stats))

    def ours(which):
        return functools.partial(seconds, predict_scene, which, scene)

    def theirs(network):
        return functools.partial(seconds, slide, network)

    own_pass, fp32_pass = (functools.partial(normalized_pass, which) for which in (predictor, fp32))
    equal = in_rounds(args, ours(fp32), theirs(fp32_pass))
    print_verdict("predictor / MONAI, both fp32", equal, 1.0, unit="s")
    if precision == "fp32":
        leave_out("predictor / MONAI in half precision", "the predictor computes in fp32 on this machine")
    else:
        equal = in_rounds(args, ours(predictor), theirs(own_pass))
        print_verdict(f"predictor / MONAI, both {precision}", equal, 1.0, unit="s")
        slower = in_rounds(args, theirs(fp32_pass), ours(predictor))
        print_verdict(f"MONAI fp32 / predictor {precision}", slower, 2.0, at_most=False, unit="s")
    slower = in_rounds(args, theirs(as_built), ours(predictor))
    name = f"MONAI fp32, network as built / predictor {precision}"
    print_verdict(name, slower, 2.0, at_most=False, unit="s")


def bench_host(args, folder, predictor):
    model = untrained_model("configs/baseline.yaml", args.model_dir, Path(folder) / "waiting")
    scenes = Path(folder) / "many"
    scenes.mkdir()
    for k in range(WAITING_SCENES):
        (scenes / f"{k}.tif").symlink_to(f"{folder}/scene.tif")
    logits = torch.rand(32, 1, 512, 512).to(predictor.device) - 5
    waits, one_at_a_time = [], threading.Lock()

    def wait(_, x):
        with one_at_a_time:
            waits.append(seconds(time.sleep, WAITING_SECONDS * len(x)))
        return logits[: len(x)]

    def run():
        waits.clear()
        with (
            patch.object(predictor_module, "network_logits", wait),
            tempfile.TemporaryDirectory(dir=folder) as out,
        ):
            return seconds(infer, model, scenes, out)

    pairs, cpu = [], []
    for _ in range(args.rounds):
        started = os.times()
        whole = run()
        ended = os.times()
        pairs.append((whole, sum(waits)))
        cpu.append(ended.user + ended.system - started.user - started.system)
    name = f"whole inference of {WAITING_SCENES} scenes / a network that only waits"
    print_verdict(name, summarize(pairs), 1.10, unit="s")
    n_windows = round(sum(waits) / WAITING_SECONDS)
    print(f"{'  CPU time a window (ms), of ' + str(os.cpu_count()) + ' cores':<60}{min(cpu) / n_windows * 1e3:>10.2f}")


def bench_memory(args, folder, predictor):
    peaks = []
    for side in (args.side, 4 * args.side):
        path = write_scene(f"{folder}/scene_{side}.tif", side)
        out = tempfile.mkdtemp(dir=folder)
        peaks.append(peak_mb(infer, args.model_dir, path, out))
    small, large = peaks
    print_verdict(f"peak memory, {4 * args.side} px / {args.side} px", once(large, small), 1.2, unit="MiB")
    print_verdict(f"peak memory, {4 * args.side} px / 3072 MiB", once(large, 3072), 1.0, unit="MiB")


ROWS = {
    "plain": bench_plain,
    "overhead": bench_overhead,
    "monai": bench_monai,
    "host": bench_host,
    "memory": bench_memory,
}


def main(args):
    with tempfile.TemporaryDirectory() as folder:
        if args.config:
            args.model_dir = untrained_model(args.config, args.model_dir, Path(folder) / "untrained")
        predictor = Predictor.from_dir(args.model_dir)
        print_header()
        write_scene(f"{folder}/scene.tif", args.side)
        for row in args.rows or ROWS:
            ROWS[row](args, folder, predictor)


if __name__ == "__main__":
    if os.environ.pop("OMP_WAIT_POLICY", None):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # it counts when the libraries are loaded
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model-dir", default="runs/sample/seed-42")
    parser.add_argument("--config", help="such as configs/baseline.yaml")
    main(parser.parse_args())
