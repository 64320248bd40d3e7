"""What a training step costs, as ratios in one run: `python bench/train.py [ROW ...]`.

precision      our step (precision auto, channels last) against the plain fp32 step of segmentation-models-pytorch,
               small network and B5
depthwise      a bare step in bfloat16 as torch computes it, against the same with the package's depthwise gradients:
               the networks of the public recipe and of the sample
loop           a step in the loop, loading included, against the bare forward + backward + optimiser step of the same
               network, batch and precision
extras         a step with average, clipping and counting against the bare one, B5 at 512
memory         peak memory of such a step against the bare one's plus the average's copy, B5 at 512
deterministic  deterministic algorithms against any, small network
scores         validation PR-AUC of the sample run in its precision against fp32, with the interval over tiles (trains
               nothing; needs runs/sample/seed-42)
Without a row, all of them: about a quarter of an hour on two cores, in which nothing else should run. Times are
milliseconds.
"""

import functools
import sys
import tempfile
import time

import torch
from common import compare, once, peak_mb, print_header, print_verdict, seconds

from rts_nb.core.files import resolve
from rts_nb.core.jobs import progress, seed_everything
from rts_nb.networks.depthwise import cpu_operations
from rts_nb.networks.models import bare_model
from rts_nb.networks.precision import PRECISIONS, resolve_precision
from rts_nb.predict.predictor import Predictor
from rts_nb.runs.directory import load_run, open_run_data
from rts_nb.runs.scoring import score_tiles
from rts_nb.settings.config import load_config
from rts_nb.tiles.loading import normalized_images
from rts_nb.tiles.sample import make_sample
from rts_nb.training.trainer import Trainer

SIZES = {"small": 128, "B5": 512}  # of tiles, pixels
OVERRIDES = {
    "small": ["sampling.batch_size=16"],
    "B5": [
        "data.tile_size=512",
        "data.source=sample",
        "predict.overlap=256",
        "sampling.batch_size=2",
        "model.encoder=efficientnet-b5",
        "model.encoder_weights=null",
        "model.decoder_channels=null",
        "loss.name=focal",
        "loader.num_workers=1",
        "freeze_backbone_epochs=0",
    ],
}


@functools.cache
def tiles_of(which, folder):
    "A dataset for the small network or B5, made once."
    size = SIZES[which]
    counts = dict(n_positive=60, n_negative=90) if which == "small" else dict(n_positive=6, n_negative=12)
    return make_sample(f"{folder}/{which}", tile_size=size, n_regions=6, n_scenes=0, **counts)


def config(which, root, *overrides):
    "The sample's config, of the small network or of B5, on the tiles in `root`."
    given = {override.partition("=")[0] for override in overrides}
    own = [override for override in OVERRIDES[which] if override.partition("=")[0] not in given]
    options = [*own, f"data.root={root}", *overrides]
    return load_config("configs/sample.yaml", " ".join(options))


def trainer_of(cfg):
    "A training before its first step."
    seed_everything(cfg.seed, cfg.reproducibility.deterministic)
    trainer = Trainer(cfg, *open_run_data(cfg), cfg.loss.build())
    trainer.enter_phase()
    return trainer


def batch_of(trainer):
    "The first batch of an epoch, loaded."
    data, channels = trainer.loader.dataset, trainer.cfg.data.extra_channels
    batch = torch.utils.data.default_collate([data[k] for k in trainer.loader.batch_sampler.batches()[0]])
    return batch | dict(image=normalized_images(batch, trainer.stats, channels).contiguous())


def bare_step(model, loss, optimizer, batch, precision):
    "Forward, backward and optimiser step, nothing else."
    is_half = precision != "fp32"
    dtype = PRECISIONS[precision] if is_half else torch.bfloat16
    with torch.autocast("cpu", dtype, enabled=is_half):
        logits = model(batch["image"])
    value = loss(logits, batch["target"])
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    optimizer.step()


def bare_step_of(trainer, batch):
    "The bare step of a trainer's own network on a batch, as a function."
    batch = batch | dict(image=batch["image"].to(memory_format=torch.channels_last))
    parts = trainer.model, trainer.loss, trainer.optimizer
    return functools.partial(bare_step, *parts, batch, trainer.precision)


def plain_step_of(cfg, loss, batch):
    "The step of the library's network as it comes, as a function: fp32, its own memory layout."
    model = bare_model(cfg.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    return functools.partial(bare_step, model, loss, optimizer, batch, "fp32")


def compare_precision(which, folder, rounds):
    cfg = config(which, tiles_of(which, folder))
    trainer = trainer_of(cfg)
    batch = batch_of(trainer)
    plain = plain_step_of(cfg, cfg.loss.build(), batch)
    name = f"plain fp32 step / ours ({trainer.precision}, channels last), {which}"
    measured = compare(lambda: seconds(plain), lambda: seconds(trainer.step, batch, 0), rounds)
    print_verdict(name, measured, 1.7, at_most=False)


def bench_precision(folder):
    compare_precision("small", folder, rounds=11)
    compare_precision("B5", folder, rounds=5)


def compare_depthwise(name, size, batch_size, limit):
    cfg = load_config(f"configs/{name}.yaml")
    seed_everything(cfg.seed, cfg.reproducibility.deterministic)
    model = bare_model(cfg.model.model_copy(update=dict(encoder_weights=None))).train()
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, size, size).to(memory_format=torch.channels_last)
    batch = dict(image=images, target=(torch.rand(batch_size, 1, size, size) < 0.1).float())
    step = functools.partial(bare_step, model, cfg.loss.build(), torch.optim.AdamW(model.parameters()), batch, "bf16")

    def with_ours():
        with cpu_operations():
            step()

    measured = compare(lambda: seconds(step), lambda: seconds(with_ours), rounds=11)
    print_verdict(f"step by torch's gradients / by ours, bfloat16, {name}", measured, limit, at_most=False)


def bench_depthwise(folder):
    compare_depthwise("public", 160, 8, limit=1.1)
    compare_depthwise("sample", 128, 16, limit=1.0)


def compare_loop(which, folder, rounds=5):
    cfg = config(which, tiles_of(which, folder))
    trainer = trainer_of(cfg)
    step, n = bare_step_of(trainer, batch_of(trainer)), trainer.steps_by_epoch[0]

    def in_loop():
        trainer.steps = []
        with progress(total=9, disable=True) as bar:
            return seconds(trainer.train_epoch, bar) / n

    def bare():
        return sum(seconds(step) for _ in range(n)) / n

    name = f"step in the loop / bare step, {which}, {cfg.loader.num_workers} worker"
    print_verdict(name, compare(in_loop, bare, rounds), 1.05)


def bench_loop(folder):
    compare_loop("small", folder)
    compare_loop("B5", folder)


def bench_extras(folder):
    trainer = trainer_of(config("B5", tiles_of("B5", folder)))
    batch = batch_of(trainer)
    measured = compare(lambda: seconds(trainer.step, batch, 0), lambda: seconds(bare_step_of(trainer, batch)), rounds=9)
    print_verdict("step with average, clipping, counting / bare step, B5", measured, 1.03)


def three_steps(root):
    trainer = trainer_of(config("B5", root, "loader.num_workers=0"))
    batch = batch_of(trainer)
    for k in range(3):
        trainer.step(batch, k)


def three_bare_steps(root):
    trainer = trainer_of(config("B5", root, "loader.num_workers=0"))
    batch = batch_of(trainer)
    del trainer.ema
    step = bare_step_of(trainer, batch)
    for _ in range(3):
        step()


def bench_memory(folder):
    root = tiles_of("B5", folder)
    ours, plain = peak_mb(three_steps, root), peak_mb(three_bare_steps, root)
    weights = bare_model(config("B5", root).model).state_dict().values()
    peer = plain + sum(v.nbytes for v in weights) / 2**20
    print_verdict("peak memory of a step / bare step + average (MiB), B5", once(ours, peer), 1.05, unit="MiB")


def bench_deterministic(folder):
    trainer = trainer_of(config("small", tiles_of("small", folder)))
    batch = batch_of(trainer)

    def timed(deterministic):
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        return seconds(trainer.step, batch, 0)

    measured = compare(lambda: timed(True), lambda: timed(False), rounds=15)
    print_verdict("deterministic step / any, small", measured, 1.2)


def pr_auc(histogram):
    return histogram.pr_auc().value


def bench_scores(folder):
    run = resolve("runs/sample/seed-42")
    cfg, _ = load_run(run)
    root, tiles, _ = open_run_data(cfg)
    val = tiles[tiles["split"] == "val"]
    for precision in ("fp32", resolve_precision("auto", "cpu")):
        histogram = score_tiles(Predictor.from_dir(run, precision=precision), cfg, root, val)
        auc = histogram.interval(pr_auc, n=300)
        interval = f"{auc.value:.5f} ({auc.low:.3f} … {auc.high:.3f})"
        print(f"validation PR-AUC of the sample run in {precision}: {interval}")


ROWS = {
    "precision": bench_precision,
    "depthwise": bench_depthwise,
    "loop": bench_loop,
    "extras": bench_extras,
    "memory": bench_memory,
    "deterministic": bench_deterministic,
    "scores": bench_scores,
}

if __name__ == "__main__":
    started = time.time()
    print_header()
    with tempfile.TemporaryDirectory() as folder:
        for row in sys.argv[1:] or ROWS:
            ROWS[row](folder)
    print(f"{time.time() - started:.0f} s")
