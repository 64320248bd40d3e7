"""What a training step costs, as ratios in one run: `python bench/train.py [precision] [loop] [extras] [memory] [deterministic] [scores]`.

precision      our step (precision auto, channels last) against the plain fp32 step of segmentation-models-pytorch, small network and B5
loop           a step in the loop, loading included, against the bare forward + backward + optimiser step of the same network, batch and precision
extras         a step with average, clipping and counting against the bare one, B5 at 512
memory         peak memory of such a step against the bare one's plus the average's copy, B5 at 512
deterministic  deterministic algorithms against any, small network
scores         validation PR-AUC of the sample run in its precision against fp32, with the interval over tiles (trains nothing; needs runs/sample/seed-42)
Nothing else should run meanwhile; all of it takes about a quarter of an hour on two cores. Times are milliseconds.
"""

import sys
import tempfile
import time

import torch
from common import compare, peak_mb, seconds, verdict

from rts_nb.core.files import resolve
from rts_nb.core.jobs import progress, seed_everything
from rts_nb.networks.models import bare_model
from rts_nb.networks.precision import PRECISIONS, resolve_precision
from rts_nb.predict.predictor import Predictor
from rts_nb.runs.directory import load_run, open_run_data
from rts_nb.runs.scoring import score_tiles
from rts_nb.settings.config import load_config
from rts_nb.tiles.sample import make_sample
from rts_nb.training.trainer import Trainer

SMALL = "sampling.batch_size=16"
B5 = (
    "data.tile_size=512 data.source=sample predict.overlap=256 sampling.batch_size=2 model.encoder=efficientnet-b5 model.encoder_weights=null model.decoder_channels=null loss.name=focal loader.num_workers=1 "
    "freeze_backbone_epochs=0"
)
MADE = {}


def config(which, folder):
    "The sample's config on tiles of 128 or, with B5, 512 pixels, made once."
    size = 128 if which == "small" else 512
    if which not in MADE:
        MADE[which] = make_sample(
            f"{folder}/{which}",
            tile_size=size,
            n_regions=6,
            n_positive=6 if size == 512 else 60,
            n_negative=12 if size == 512 else 90,
            n_scenes=0,
        )
    return load_config("configs/sample.yaml", f"{SMALL if which == 'small' else B5} data.root={MADE[which]}")


def trainer_of(cfg):
    seed_everything(cfg.seed, cfg.reproducibility.deterministic)
    trainer = Trainer(cfg, *open_run_data(cfg), cfg.loss.build())
    trainer.enter_phase()
    return trainer


def batch_of(trainer):
    "The first batch of an epoch, loaded."
    data = trainer.loader.dataset
    return torch.utils.data.default_collate([data[k] for k in trainer.loader.batch_sampler.batches()[0]])


def bare(model, loss, optimizer, batch, precision):
    "Forward, backward and optimiser step, nothing else."
    image, target = batch["image"], batch["target"]
    with torch.autocast(
        "cpu", PRECISIONS[precision] if precision != "fp32" else torch.bfloat16, enabled=precision != "fp32"
    ):
        logits = model(image)
    value = loss(logits, target)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    optimizer.step()


def bare_of(trainer, batch):
    "The bare step of a trainer's own network on a batch."
    batch = batch | dict(image=batch["image"].to(memory_format=torch.channels_last))
    return lambda: bare(trainer.model, trainer.loss, trainer.optimizer, batch, trainer.precision)


def plain_of(cfg, loss, batch):
    "The step of the library's network as it comes: fp32, its own memory layout."
    model = bare_model(cfg.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    return lambda: bare(model, loss, optimizer, batch, "fp32")


def bench_precision(folder):
    for which, rounds in (("small", 11), ("B5", 5)):
        cfg = config(which, folder)
        trainer = trainer_of(cfg)
        batch = batch_of(trainer)
        plain = plain_of(cfg, cfg.loss.build(), batch)
        verdict(
            f"plain fp32 step / ours ({trainer.precision}, channels last), {which}",
            compare(lambda: seconds(plain), lambda: seconds(trainer.step, batch, 0), rounds),
            1.7,
            at_most=False,
        )


def bench_loop(folder, epochs=5):
    for which in ("small", "B5"):
        trainer = trainer_of(config(which, folder))
        step, n = bare_of(trainer, batch_of(trainer)), trainer.steps_by_epoch[0]

        def ours():
            trainer.steps = []
            with progress(total=9, disable=True) as bar:
                return seconds(trainer.train_epoch, bar) / n

        verdict(
            f"step in the loop / bare step, {which}, {trainer.cfg.loader.num_workers} worker",
            compare(ours, lambda: sum(seconds(step) for _ in range(n)) / n, epochs),
            1.05,
        )


def bench_extras(folder):
    trainer = trainer_of(config("B5", folder))
    batch = batch_of(trainer)
    verdict(
        "step with average, clipping, counting / bare step, B5",
        compare(lambda: seconds(trainer.step, batch, 0), lambda: seconds(bare_of(trainer, batch)), 9),
        1.03,
    )


def bench_memory(folder):
    cfg = config("B5", folder)
    code = f"""import sys; sys.path.insert(0, 'bench')
import train as bench
from rts_nb.config import load_config
trainer = bench.trainer_of(load_config('configs/sample.yaml', '{B5} data.root={MADE["B5"]} loader.num_workers=0'))
batch = bench.batch_of(trainer)
"""
    ours, plain = (
        peak_mb(code + more)
        for more in (
            "for k in range(3): trainer.step(batch, k)",
            "del trainer.ema\nstep = bench.bare_of(trainer, batch)\nfor k in range(3): step()",
        )
    )
    copy = sum(v.nbytes for v in bare_model(cfg.model).state_dict().values()) / 2**20
    ratio = ours / (plain + copy)
    print(
        f"{'peak memory of a step / bare step + average (MiB), B5':<60}{ours:>10.0f}{plain + copy:>10.0f}{ratio:>8.2f}  {'':16}at most 1.05 {'met' if ratio <= 1.05 else 'MISSED'}"
    )


def bench_deterministic(folder):
    trainer = trainer_of(config("small", folder))
    batch = batch_of(trainer)

    def timed(deterministic):
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        return seconds(trainer.step, batch, 0)

    verdict("deterministic step / any, small", compare(lambda: timed(True), lambda: timed(False), 15), 1.2)


def bench_scores(folder):
    run = resolve("runs/sample/seed-42")
    cfg, _ = load_run(run)
    root, tiles, _ = open_run_data(cfg)
    val = tiles[tiles["split"] == "val"]
    own = resolve_precision("auto", "cpu")
    for precision in ("fp32", own):
        histogram = score_tiles(Predictor.from_dir(run, precision=precision), cfg, root, val)
        auc = histogram.interval(lambda h: h.pr_auc().value, n=300)
        print(f"validation PR-AUC of the sample run in {precision}: {auc.value:.5f} ({auc.low:.3f} … {auc.high:.3f})")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["precision", "loop", "extras", "memory", "deterministic", "scores"]
    print(f"{'':<60}{'ours':>10}{'peer':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        for name in chosen:
            globals()[f"bench_{name}"](folder)
    print(f"{time.time() - started:.0f} s")
