"""What only a GPU can show, in one run: `bash bench/gpu.sh`, which calls `python bench/gpu.py [PART ...]`.

device        the card, its driver, torch; a sample run trained, calibrated and mapped on it
step          a step of the whole network of configs/baseline.yaml, unfrozen, deterministic: its peak against the one
              that pre-flight predicts, images a second
repeat        two processes train every architecture for two steps: equal to the bit?
resume        a run stopped by SIGTERM and resumed against one that was not: equal to the bit?
precision     fp16 and bf16 against fp32: direction of the gradient, validation PR-AUC of the sample run
deterministic a step with deterministic algorithms against one with any
loader        tiles that the loader reads against tiles that the step takes, RGB and with four extra channels
mapping       a map of four scenes against the bare passes over their windows, and memory held after two and after four
ranks         two gloo processes on the CPU of this machine
arctic        what a map of 20 million km² costs at the rate of that mapping

On a GPU: under ten minutes, `docs/gpu.md` named after the card. On a CPU: small sizes, the same code, so that it works
on the day. A part that fails is a row with its error, and the exit status is 1; parts after the time that --seconds
gives are rows that say so.
"""

import argparse
import contextlib
import dataclasses
import datetime
import functools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from common import seconds, wait_for_device
from infer import half_precision_pass, normalized_batch, untrained_model, write_scene
from torch import nn

from rts_nb.calibrate import calibrate
from rts_nb.core.device import usable_cores
from rts_nb.core.files import project_root, resolve, write_json
from rts_nb.core.jobs import seed_everything
from rts_nb.infer import infer
from rts_nb.networks.devices import cuda_state
from rts_nb.networks.models import ModelConfig, bare_model, load_weights
from rts_nb.networks.operations import gpu_operations
from rts_nb.networks.precision import (
    PRECISIONS,
    float32_mode,
    loss_scaler,
    resolve_precision,
    true_float32,
    weights_digest,
)
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.windows import window_starts
from rts_nb.runs.directory import open_run_data
from rts_nb.runs.scoring import score_tiles
from rts_nb.settings.config import load_config
from rts_nb.tiles.loading import LoaderConfig, TrainTiles, data_loader, normalized_images
from rts_nb.tiles.sample import make_sample
from rts_nb.train import train
from rts_nb.training.preflight import step_bytes
from rts_nb.training.trainer import Trainer

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Sizes:
    "How much is computed."

    tile: int  # pixels
    batch: int  # tiles
    encoder: str  # of the baseline's network
    encoders: dict[str, str]  # by architecture, of `repeat`
    repeat_tile: int
    steps: int  # timed
    workers: int  # of the loader
    side: int  # pixels of a scene
    small_tile: int  # pixels, of the sample run
    sample: dict  # overrides of configs/test.yaml for the sample run


LARGE = Sizes(
    tile=512,
    batch=32,
    encoder="efficientnet-b5",
    encoders={
        "unetplusplus": "efficientnet-b5",
        "unet": "tu-resnet18",
        "segformer": "mit_b2",
        "dpt": "tu-vit_small_patch16_dinov3",
        "fpn": "efficientnet-b0",
        "deeplabv3plus": "efficientnet-b0",
    },
    repeat_tile=256,
    steps=8,
    workers=8,
    side=4096,
    small_tile=128,
    sample={},
)
SMALL = Sizes(
    tile=64,
    batch=2,
    encoder="tu-mobilenetv3_small_050",
    encoders={"unet": "tu-resnet18", "segformer": "mit_b0"},
    repeat_tile=64,
    steps=2,
    workers=1,
    side=320,
    small_tile=64,
    sample={
        "data.tile_size": 64,
        "predict.overlap": 32,
        "sampling.batch_size": 8,
        "train.epochs": 2,
        "freeze_backbone_epochs": 1,
    },
)
SIZES = LARGE if ON_GPU else SMALL
Row = tuple[str, str, str]  # what, found, beside it


@dataclasses.dataclass
class Bench:
    "Where things are, and what earlier parts found."

    folder: Path
    found: dict = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def small_root(self) -> Path:
        "The dataset of the sample run."
        n = 60 if ON_GPU else 24
        tiles = dict(tile_size=SIZES.small_tile, n_positive=n, n_negative=n)
        return make_sample(self.folder / "small", n_scenes=1, **tiles)

    @functools.cached_property
    def large_root(self) -> Path:
        "A dataset of tiles of the baseline's size."
        n = max(SIZES.batch // 2 + 8, 12)
        tiles = dict(tile_size=SIZES.tile, n_positive=n, n_negative=n)
        return make_sample(self.folder / "large", n_regions=6, n_scenes=0, **tiles)

    def sample_overrides(self, **more) -> str:
        "Overrides of configs/test.yaml that make the sample run."
        data = {"data.root": f"'{self.small_root}'", "data.source": "tiles"}
        return as_text(data | {"loader.num_workers": min(SIZES.workers, 4)} | SIZES.sample | more)

    def baseline(self, **more):
        "The baseline's config on the large tiles."
        settings = {
            "data.root": f"'{self.large_root}'",
            "data.source": "tiles",
            "data.tile_size": SIZES.tile,
            "predict.overlap": SIZES.tile // 2,
            "sampling.batch_size": SIZES.batch,
            "loader.num_workers": SIZES.workers,
            "model.encoder": SIZES.encoder,
            "model.encoder_weights": "null",
            "freeze_backbone_epochs": 0,
        }
        if not ON_GPU:
            settings |= {"train.device": "cpu", "train.precision": "auto", "predict.batch_size": 2}
        return load_config("configs/baseline.yaml", as_text(settings | more))

    def trainer(self, **more) -> Trainer:
        "A trainer of that config, with nothing trained."
        cfg = self.baseline(**more)
        seed_everything(cfg.seed, cfg.reproducibility.deterministic)
        torch.backends.cudnn.benchmark = False  # it tries every algorithm at every new shape, minutes for this network
        return Trainer(cfg, *open_run_data(cfg), cfg.loss.build())


def as_text(settings: dict) -> str:
    "Overrides as a command takes them."
    return " ".join(f"{key}={value}" for key, value in settings.items())


def first_batch(trainer: Trainer) -> dict:
    "The first batch of a training, loaded, pinned where there is a GPU."
    data = trainer.loader.dataset
    batch = torch.utils.data.default_collate([data[key] for key in trainer.loader.batch_sampler.batches()[0]])
    return {name: value.pin_memory() if ON_GPU else value for name, value in batch.items()}


def step_seconds(trainer: Trainer, batch: dict, n: int) -> tuple[float, float]:
    "Seconds of the first step, and the median of `n` later ones."
    trainer.enter_phase()
    trainer.step(batch, 0)
    first = seconds(trainer.step, batch, 0)
    return first, statistics.median(seconds(trainer.step, batch, 0) for _ in range(n))


def peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / GIB if ON_GPU else float("nan")


def shown_peak() -> str:
    return f"peak {peak_gib():.2f} GiB" if ON_GPU else "no GPU, no peak"


def forget() -> None:
    "Frees what an earlier part held."
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def run_child(*arguments: str) -> subprocess.Popen:
    "This program again, with other arguments."
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def training_command(run: Path, overrides: str) -> list[str]:
    "The command that trains configs/test.yaml, with overrides, into a folder."
    program = [sys.executable, "-W", "ignore", "-m", "rts_nb.train", "--config", "configs/test.yaml"]
    return [*program, "--run-dir", str(run), "--overrides", overrides]


def last_line(process: subprocess.Popen) -> str:
    "What a process printed last, once it has ended."
    printed, _ = process.communicate()
    lines = printed.strip().splitlines() or [""]
    if process.returncode:
        raise RuntimeError(f"a process ended with status {process.returncode}: {lines[-1]}")
    return lines[-1]


# --- device -----------------------------------------------------------------------------------------------------------


def part_device(bench: Bench) -> Iterator[Row]:
    yield "torch", torch.__version__, cuda_state()
    if ON_GPU:
        card = torch.cuda.get_device_properties(0)
        capability = f"capability {card.major}.{card.minor}, {card.multi_processor_count} multiprocessors"
        yield "card", card.name, f"{card.total_memory / GIB:.1f} GiB, {capability}"
    auto = resolve_precision("auto", DEVICE)
    yield "precision auto", auto, f"fp32 would be: {float32_mode(DEVICE)}"
    shared = shutil.disk_usage("/dev/shm").free / GIB
    yield "shared memory", f"{shared:.1f} GiB free", f"{usable_cores()} cores"
    run = bench.folder / "runs" / "whole"
    clock = time.time()
    train("configs/test.yaml", run, bench.sample_overrides())
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    trained = f"{time.time() - clock:.0f} s, {metrics['precision']}"
    yield "sample run trained", f"PR-AUC {metrics['best']['metric']:.3f}", trained
    took = seconds(calibrate, run)
    yield "calibrated", f"{took:.0f} s", ""
    scenes = bench.small_root / "scenes"
    took = seconds(infer, run, scenes, bench.folder / "sample_map")
    log = json.loads((bench.folder / "sample_map" / "inference_log.json").read_text(encoding="utf-8"))
    yield "mapped", f"{took:.0f} s", f"{log['scenes_done']} scenes, {len(log['scenes_failed'])} failed"
    bench.found["run"] = run


# --- step -------------------------------------------------------------------------------------------------------------


def part_step(bench: Bench) -> Iterator[Row]:
    forget()
    trainer = bench.trainer()
    batch = first_batch(trainer)
    first, later = step_seconds(trainer, batch, SIZES.steps)
    bench.found["images"] = SIZES.batch / later
    size = f"{SIZES.batch} × {SIZES.tile} px, {trainer.precision}"
    yield f"step of UNet++ / {SIZES.encoder}, deterministic", f"{later * 1e3:.0f} ms", f"{size}, first {first:.1f} s"
    yield "images a second", f"{SIZES.batch / later:.1f}", f"{trainer.skipped} steps skipped, {loss_scale(trainer)}"
    if ON_GPU:
        model = bare_model(trainer.cfg.model)
        predicted = step_bytes(trainer.cfg, model, SIZES.batch, trainer.precision) / GIB
        beside = f"pre-flight predicts {predicted:.2f} GiB ({peak_gib() / predicted:.2f})"
        yield "peak memory", f"{peak_gib():.2f} GiB", beside
    half = SIZES.batch // 2
    trainer.cfg = bench.baseline(**{"train.micro_batch": half})
    forget()
    _, in_parts = step_seconds(trainer, batch, SIZES.steps)
    yield f"the same in parts of {half}", f"{in_parts * 1e3:.0f} ms", shown_peak()


def loss_scale(trainer: Trainer) -> str:
    return f"loss scale {trainer.scaler.get_scale():g}" if trainer.scaler.is_enabled() else "no loss scale"


# --- repeat -----------------------------------------------------------------------------------------------------------


def weights_after_two_steps(architecture: str, encoder: str) -> str:
    "A digest of the weights after two deterministic steps on random tiles."
    seed_everything(42, True)
    model = bare_model(ModelConfig(architecture=architecture, encoder=encoder, encoder_weights=None)).to(DEVICE)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loss = load_config("configs/baseline.yaml").loss.build()
    size = SIZES.repeat_tile
    for _ in range(2):
        image = torch.rand(4, 3, size, size).to(DEVICE, memory_format=torch.channels_last)
        target = (torch.rand(4, 1, size, size) < 0.01).float().to(DEVICE)
        loss(logits_of(model, image, resolve_precision("auto", DEVICE)), target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return weights_digest(model)


def logits_of(model: nn.Module, image: torch.Tensor, precision: str) -> torch.Tensor:
    "A deterministic forward pass."
    dtype = PRECISIONS[precision] if precision != "fp32" else torch.bfloat16
    operations = gpu_operations(True) if ON_GPU else contextlib.nullcontext()
    with torch.autocast(DEVICE.type, dtype, enabled=precision != "fp32"), operations:
        return model(image)


def part_repeat(bench: Bench) -> Iterator[Row]:
    forget()
    processes = [run_child("--digests") for _ in range(2)]
    answers = [json.loads(last_line(process)) for process in processes]
    for architecture, encoder in SIZES.encoders.items():
        one, other = (answer[architecture] for answer in answers)
        equal = "equal to the bit" if one == other else f"DIFFERENT: {one}, {other}"
        yield f"{architecture} / {encoder}, twice", equal, "two processes, two steps each"


# --- resume -----------------------------------------------------------------------------------------------------------


def part_resume(bench: Bench) -> Iterator[Row]:
    stopped = bench.folder / "runs" / "stopped"
    command = training_command(stopped, bench.sample_overrides())
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=project_root())
    while process.poll() is None and not (stopped / "checkpoints" / "last.pt").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    status = process.wait(timeout=120)
    was_finished = (stopped / "metrics.json").exists()
    train("configs/test.yaml", stopped, bench.sample_overrides())
    whole = bench.found["run"]
    equal = (whole / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    state = "had ended before" if was_finished else f"stopped with status {status}"
    yield "stopped by SIGTERM and resumed", "equal to the bit" if equal else "DIFFERENT", state


# --- precision --------------------------------------------------------------------------------------------------------


def gradients(model, loss, batch, precision: str, scale: float) -> list[torch.Tensor]:
    "Gradients of all weights and of all logits of a batch, one vector each, at a loss scale; the same random layers."
    image, target = batch
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    logits = logits_of(model, image, precision)
    logits.retain_grad()
    (loss(logits, target) * scale).backward()
    of_weights = torch.cat([v.grad.flatten() for v in model.parameters() if v.grad is not None])
    return [vector.double() / scale for vector in (of_weights, logits.grad.flatten())]


def finite_gradients(model, loss, batch, precision: str) -> tuple[list[torch.Tensor], float]:
    "Gradients at the first loss scale that holds, found as a training finds it: begun high, and halved."
    scaler = loss_scaler("cpu", precision, batch[1].numel())
    scale = scaler.get_scale()
    found = gradients(model, loss, batch, precision, scale)
    while not all(bool(vector.isfinite().all()) for vector in found) and scale > 1:
        scale /= 2
        found = gradients(model, loss, batch, precision, scale)
    return found, scale


def part_precision(bench: Bench) -> Iterator[Row]:
    forget()
    run = bench.found["run"]
    cfg = load_config(run / "config.yaml")
    root, tiles, stats = open_run_data(cfg)
    trainer = Trainer(cfg, root, tiles, stats, cfg.loss.build())
    model = load_weights(trainer.model, run / "model.safetensors").eval()
    batch, loss = first_batch(trainer), load_config("configs/baseline.yaml").loss.build()
    image = normalized_images(batch, stats, cfg.data.extra_channels, DEVICE)
    target = batch["target"].to(DEVICE)
    with true_float32():
        exact = gradients(model, loss, (image, target), "fp32", 1.0)
    for precision in ("fp16", "bf16") if ON_GPU else ("bf16",):
        found, scale = finite_gradients(model, loss, (image, target), precision)
        cosines = [torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in zip(found, exact, strict=True)]
        shown = f"cosine {cosines[0]:.5f}; of the logits {cosines[1]:.6f}"
        mean = torch.sigmoid(logits_of(model, image, "fp32").float()).mean().item()
        beside = f"sample run's network, mean p {mean:.3f}, loss scale {scale:g}"
        yield f"gradient in {precision} against fp32", shown, beside
    values = {}
    val = tiles[tiles["split"] == "val"]
    for precision in ("fp32", "fp16", "bf16") if ON_GPU else ("fp32", "bf16"):
        predictor = Predictor.from_dir(run, precision=precision)
        values[precision] = score_tiles(predictor, cfg, root, val).pr_auc(cfg.validation.operating_ratio).value
    found = ", ".join(f"{precision} {value:.5f}" for precision, value in values.items())
    yield "validation PR-AUC of the sample run", found, f"{len(val)} tiles"


# --- deterministic ----------------------------------------------------------------------------------------------------


def part_deterministic(bench: Bench) -> Iterator[Row]:
    networks = {"unetplusplus": SIZES.encoder, "segformer": SIZES.encoders["segformer"]}
    for architecture, encoder in networks.items():
        times, peaks = [], []
        for deterministic in (True, False):
            forget()
            network = {"model.architecture": architecture, "model.encoder": encoder, "train.precision": "auto"}
            trainer = bench.trainer(**network, **{"reproducibility.deterministic": str(deterministic).lower()})
            times.append(step_seconds(trainer, first_batch(trainer), SIZES.steps)[1])
            peaks.append(shown_peak())
            del trainer
        found = f"{times[0] * 1e3:.0f} ms against {times[1] * 1e3:.0f} ms: {times[0] / times[1]:.2f}"
        yield f"deterministic, {architecture} / {encoder}", found, " against ".join(peaks)


# --- loader -----------------------------------------------------------------------------------------------------------


def loaded_tiles(bench: Bench, channels: list[str], n_batches: int) -> float:
    "Tiles a second that the loader gives, its workers started before."
    cfg = bench.baseline(**{"data.extra_channels": f"[{','.join(channels)}]"})
    root, tiles, _ = open_run_data(cfg)
    data = TrainTiles(root, tiles, cfg.data, cfg.augment, cfg.boundary, cfg.seed)
    keys = [[(k % len(tiles), 1 + b, k) for k in range(SIZES.batch)] for b in range(n_batches + 2)]
    options = dict(num_workers=SIZES.workers, prefetch_factor=2, persistent_workers=True, pin_memory=True)
    batches = iter(data_loader(data, LoaderConfig(**options), batch_sampler=keys))
    next(batches)
    next(batches)
    clock = time.perf_counter()
    for _ in range(n_batches):
        next(batches)
    return n_batches * SIZES.batch / (time.perf_counter() - clock)


def part_loader(bench: Bench) -> Iterator[Row]:
    taken = bench.found.get("images", float("nan"))
    for channels in ([], ["ndvi", "nir", "re", "sr"]):
        rate = loaded_tiles(bench, channels, 24 if ON_GPU else 3)
        name = "RGB" if not channels else "RGB and four channels"
        beside = f"{SIZES.workers} workers, {rate / SIZES.workers:.1f} a worker; the step takes {taken:.1f}"
        yield f"loader, {name}", f"{rate:.0f} tiles a second ({rate / taken:.2f} × the step)", beside


# --- mapping ----------------------------------------------------------------------------------------------------------


def map_scenes(bench: Bench, model: Path, names: list[str]) -> float:
    "Seconds of a map of scenes."
    scenes = Path(tempfile.mkdtemp(dir=bench.folder))
    for name in names:
        (scenes / f"{name}.tif").symlink_to(bench.folder / "scene.tif")
    out = Path(tempfile.mkdtemp(dir=bench.folder))
    took = seconds(infer, model, scenes, out)
    bench.found["log"] = json.loads((out / "inference_log.json").read_text(encoding="utf-8"))
    return took


def held_gib() -> str:
    if not ON_GPU:
        return "no GPU"
    return f"{torch.cuda.memory_allocated() / GIB:.3f} GiB held"


def part_mapping(bench: Bench) -> Iterator[Row]:
    forget()
    config = bench.folder / "mapping.yaml"
    cfg = bench.baseline(**{"train.precision": "auto"})
    config.write_text(json.dumps(cfg.model_dump(mode="json")), encoding="utf-8")
    model = untrained_model(config, bench.found["run"], bench.folder / "untrained", batch=32 if ON_GPU else 2)
    write_scene(bench.folder / "scene.tif", SIZES.side)
    map_scenes(bench, model, ["warm"])
    map_scenes(bench, model, ["a", "b"])
    after_two = held_gib()
    before = time.process_time()
    took = map_scenes(bench, model, ["a", "b", "c", "d"])
    busy = time.process_time() - before
    after_four = held_gib()
    clock = time.perf_counter()
    predictor = Predictor.from_dir(model)
    start_up = time.perf_counter() - clock
    x = normalized_batch(predictor).to(DEVICE).contiguous(memory_format=torch.channels_last)
    settings = predictor.settings
    windows = 4 * len(window_starts(SIZES.side, settings.tile_size, settings.overlap)) ** 2

    def bare() -> None:
        with torch.inference_mode(), torch.autocast(DEVICE.type, enabled=False):
            for _ in range(-(-windows // settings.batch_size)):
                half_precision_pass(predictor, x)

    bare()
    passes = seconds(bare)
    rate = f"{windows / took:.0f} windows a second"
    beside = (
        f"{took:.1f} s, {passes:.1f} s; {rate}, {busy / windows * 1e3:.1f} ms of CPU each; start-up {start_up:.1f} s"
    )
    yield f"map of 4 scenes of {SIZES.side} px / bare passes", f"{took / passes:.2f}", beside
    yield "memory after two scenes, after four", f"{after_two}, {after_four}", f"{predictor.precision}"


# --- ranks, arctic ----------------------------------------------------------------------------------------------------


def part_ranks(bench: Bench) -> Iterator[Row]:
    run = bench.folder / "runs" / "ranks"
    settings = {"train.devices": 2, "train.epochs": 1, "freeze_backbone_epochs": 0}
    overrides = bench.sample_overrides(**settings, **{"train.device": "cpu", "train.precision": "fp32"})
    clock = time.time()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = training_command(run, overrides)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=project_root())
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    yield "two gloo processes", f"PR-AUC {metrics['best']['metric']:.3f}", f"{time.time() - clock:.0f} s"


def part_arctic(bench: Bench) -> Iterator[Row]:
    log = bench.found["log"]
    hourly = load_config("configs/baseline.yaml").cost.hourly_usd
    yield "20 million km² at the rate of that map", f"{log['arctic_usd']:,.0f} USD", f"at {hourly} USD an hour"


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "device": part_device,
    "step": part_step,
    "repeat": part_repeat,
    "resume": part_resume,
    "precision": part_precision,
    "deterministic": part_deterministic,
    "loader": part_loader,
    "mapping": part_mapping,
    "ranks": part_ranks,
    "arctic": part_arctic,
}


def run_part(name: str, bench: Bench, until: float) -> tuple[list[Row], bool]:
    "The rows of a part, and whether it went through; an error is a row."
    if time.time() > until:
        return [(name, "not run", "the time was up")], True
    rows, clock = [], time.time()
    try:
        for row in PARTS[name](bench):
            rows.append(row)
            print(" · ".join(part for part in row if part), flush=True)
    except Exception as e:
        traceback.print_exc()
        reason = (str(e).strip().splitlines() or [""])[-1][:200]
        return [*rows, (name, "FAILED", f"{type(e).__name__}: {reason}")], False
    finally:
        print(f"   {name}: {time.time() - clock:.0f} s", flush=True)
        with contextlib.suppress(Exception):
            wait_for_device()
    return rows, True


def document(rows: list[Row], took: float) -> str:
    "docs/gpu.md."
    card = torch.cuda.get_device_name() if ON_GPU else "CPU (small sizes: nothing here is a figure of a GPU)"
    lines = [
        "# What a GPU shows",
        "",
        f"`bash bench/gpu.sh` on: **{card}**, {datetime.date.today()}, {took:.0f} s, torch {torch.__version__}.",
        "Written by that command; what each part is stands at the top of `bench/gpu.py`.",
        "",
        "| what | found | beside it |",
        "|---|---|---|",
        *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def write_rows(path: Path, rows: list[Row], took: float) -> None:
    "Writes the rows so far as Markdown and JSON: what an early end leaves is kept."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document(rows, took), encoding="utf-8")
    write_json(path.with_suffix(".json"), [list(row) for row in rows])


def digests() -> None:
    "Prints the digests of `repeat` as JSON."
    torch.set_num_threads(1 if not ON_GPU else torch.get_num_threads())
    print(json.dumps({name: weights_after_two_steps(name, encoder) for name, encoder in SIZES.encoders.items()}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", default="docs/gpu.md" if ON_GPU else "", help="Markdown file to write")
    parser.add_argument("--seconds", type=float, default=570, help="after these no further part is begun")
    parser.add_argument("--digests", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.digests:
        digests()
        return 0
    start, rows, sound = time.time(), [], True
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RTS_RUNS"] = folder
        bench = Bench(Path(folder))
        for name in given.parts or PARTS:
            found, went = run_part(name, bench, start + given.seconds)
            rows += found
            sound = sound and went
            if given.out:
                write_rows(Path(resolve(given.out)), rows, time.time() - start)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
