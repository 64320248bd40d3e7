"""What tests/test_ranks.py runs, alone or as one of several processes under torchrun: `ranks.py DATA OUT`.

Both ways train 20 steps with batch norm in evaluation mode and the focal loss; alone, the batches of both processes are
accumulated. In float64, since AdamW divides gradients by their size and so turns the rounding of those that are almost
zero into steps.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from rts_nb.core.jobs import rank_and_world, seed_everything
from rts_nb.losses import LOSSES, build_loss
from rts_nb.networks.models import save_weights
from rts_nb.runs.directory import open_run_data
from rts_nb.settings.config import load_config
from rts_nb.tiles.loading import normalized_images
from rts_nb.training import steps
from rts_nb.training.processes import process_group
from rts_nb.training.schedule import learning_rates
from rts_nb.training.trainer import Trainer

STEPS, WORLD = 20, 2
OVERRIDES = [
    "data.source=tiles",
    "data.tile_size=64",
    "predict.overlap=32",
    "predict.batch_size=4",
    "sampling.batch_size=4",
    "train.precision=fp32",
    "augment.enabled=false",
    "loss.name=focal",
    "loader.num_workers=0",
    "train.epochs=9",
]


def config(root):
    return load_config("configs/sample.yaml", " ".join([f"data.root={root}", *OVERRIDES]))


def linear_map():
    "A network of one 1 x 1 convolution with fixed weights."
    net = nn.Conv2d(3, 1, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([0.5, -1, 2]).view(1, 3, 1, 1))
        net.bias.zero_()
    return net


def loss_gradients() -> dict[str, list[float]]:
    "Gradient of a linear map's weights by each loss: averaged over the processes, each with its part of the batch."
    rank, world = rank_and_world()
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 8, 8, generator=rng)
    target = (torch.rand(4, 1, 8, 8, generator=rng) < 0.2).float()
    target[0] = 255  # one process has fewer valid pixels than the other
    part = slice(4 * rank // world, 4 * (rank + 1) // world)
    gradients = {}
    sections = {name: dict(name=name) for name in LOSSES}
    sections["with slumps"] = dict(name="focal_dice", lambda_slump=1.0)
    for name, section in sections.items():
        loss, net = build_loss(**section), linear_map()
        loss.set_counts(n_background=100, n_rts=20)
        loss(net(x[part]), target[part]).backward()
        if world > 1:
            torch.distributed.all_reduce(net.weight.grad)
        gradients[name] = (net.weight.grad / world).ravel().tolist()
    return gradients


def train_steps(trainer):
    """Trains 20 steps, alone on the accumulated half-batches of all processes; returns the draws of every epoch.

    Alone, the epochs are as many optimiser steps long as those of the processes.
    """
    drawn = []
    done = 0
    while done < STEPS:
        trainer.loader.batch_sampler.epoch = trainer.epoch + 1
        trainer.enter_phase()
        trainer.model.eval()
        if trainer.world == 1:
            trainer.steps_by_epoch[trainer.epoch] //= WORLD
        batches = list(trainer.loader)
        n = min(trainer.steps_by_epoch[trainer.epoch], STEPS - done)
        for k in range(n):
            if trainer.world > 1:
                trainer.step(batches[k], k)
            else:
                accumulated_step(trainer, batches[WORLD * k : WORLD * (k + 1)], k)
        done += n
        drawn.append([int(i) for batch in batches for i in batch["index"]])
        trainer.epoch += 1
    return drawn


def accumulated_step(trainer, halves, k):
    "One optimiser step on the loss over the half-batches: each counts by its share of the pixels that are not ignored."
    n_valid = [int((half["target"] <= 1).sum()) for half in halves]
    rates = learning_rates(trainer.cfg, trainer.epoch + k / trainer.steps_by_epoch[trainer.epoch])
    for group in trainer.optimizer.param_groups:
        group["lr"] = rates[group["name"]]
    trainer.optimizer.zero_grad()
    for half, n in zip(halves, n_valid, strict=True):
        logits, target = trainer.forward(half)
        (trainer.loss(logits, target) * n / sum(n_valid)).backward()
    nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.cfg.optimizer.clip_norm)
    trainer.optimizer.step()
    trainer.ema.update_parameters(trainer.model)


def images_float64(*arguments):
    return normalized_images(*arguments).double()


def float64_trainer(cfg):
    "A trainer whose network, average and images are float64."
    trainer = Trainer(cfg, *open_run_data(cfg), cfg.loss.build())
    trainer.model.double()
    trainer.ema.double()
    steps.normalized_images = images_float64
    return trainer


def main(root, out):
    with process_group():
        rank, world = rank_and_world()
        cfg = config(root)
        seed_everything(cfg.seed)
        trainer = float64_trainer(cfg)
        drawn = train_steps(trainer)
        trainer.ema.float()
        validation, histogram, _ = trainer.validate(watched=True)
        result = dict(
            drawn=drawn,
            losses=loss_gradients(),
            validation=validation,
            tiles=histogram.table.column("tile_id"),
        )
        Path(f"{out}-{world}-{rank}.json").write_text(json.dumps(result), encoding="utf-8")
        if rank == 0:
            save_weights(trainer.ema_model, f"{out}-{world}-averaged.safetensors")
            save_weights(trainer.model, f"{out}-{world}-model.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
