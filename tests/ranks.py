"""What tests/test_ranks.py runs, alone or as one of several processes under torchrun: `ranks.py DATA OUT`.

Both ways train 20 steps with batch norm in evaluation mode and the focal loss; alone, the batches of both processes are accumulated. In float64,
since AdamW divides gradients by their size and so turns the rounding of those that are almost zero into steps."""

import json
import sys

import torch
from torch import nn

from rts_nb.core.jobs import rank_and_world, seed_everything
from rts_nb.losses import LOSSES, build_loss
from rts_nb.networks.models import save_weights
from rts_nb.runs.directory import open_run_data
from rts_nb.settings.config import load_config
from rts_nb.training.processes import process_group
from rts_nb.training.schedule import learning_rates
from rts_nb.training.trainer import Trainer

STEPS, WORLD = 20, 2


def config(root):
    return load_config(
        "configs/sample.yaml",
        f"data.root={root} data.source=tiles data.tile_size=64 predict.overlap=32 predict.batch_size=4 sampling.batch_size=4 train.precision=fp32 "
        "augment.enabled=false loss.name=focal loader.num_workers=0 train.epochs=9",
    )


def losses() -> dict:
    "Gradient of a linear map's weights by each loss: averaged over the processes, each with its part of the batch."
    rank, world = rank_and_world()
    rng = torch.Generator().manual_seed(1)
    x, target = torch.randn(4, 3, 8, 8, generator=rng), (torch.rand(4, 1, 8, 8, generator=rng) < 0.2).float()
    target[0] = 255  # one process has fewer valid pixels than the other
    part, grads = slice(4 * rank // world, 4 * (rank + 1) // world), {}
    for name in LOSSES:
        loss, net = build_loss(name), nn.Conv2d(3, 1, 1)
        loss.set_counts(n_background=100, n_rts=20)
        with torch.no_grad():
            net.weight.copy_(torch.tensor([0.5, -1, 2]).view(1, 3, 1, 1))
            net.bias.zero_()
        loss(net(x[part]), target[part]).backward()
        if world > 1:
            torch.distributed.all_reduce(net.weight.grad)
        grads[name] = (net.weight.grad / world).ravel().tolist()
    return grads


def steps(trainer, drawn):
    "20 steps of this process, or alone of all processes, their half-batches accumulated."
    done = 0
    while done < STEPS:
        trainer.loader.batch_sampler.epoch = trainer.epoch + 1
        trainer.enter_phase()
        trainer.model.eval()
        if trainer.world == 1:
            trainer.steps_by_epoch[trainer.epoch] //= WORLD  # as many optimiser steps as the processes take
        batches = list(trainer.loader)
        for k in range(min(trainer.steps_by_epoch[trainer.epoch], STEPS - done)):
            if trainer.world > 1:
                trainer.step(batches[k], k)
            else:
                accumulated(trainer, batches[WORLD * k : WORLD * (k + 1)], k)
            done += 1
        drawn.append([int(i) for b in batches for i in b["index"]])
        trainer.epoch += 1


def accumulated(trainer, halves, k):
    "One optimiser step on the loss over the half-batches: each counts by its share of the pixels that are not ignored."
    valid = [int((half["target"] <= 1).sum()) for half in halves]
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rates(trainer.cfg, trainer.epoch + k / trainer.steps_by_epoch[trainer.epoch])[
            group["name"]
        ]
    trainer.optimizer.zero_grad()
    for half, n in zip(halves, valid):
        logits, target = trainer.forward(half)
        (trainer.loss(logits, target) * n / sum(valid)).backward()
    nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.cfg.optimizer.clip_norm)
    trainer.optimizer.step()
    trainer.ema.update_parameters(trainer.model)


def main(root, out):
    with process_group():
        rank, world = rank_and_world()
        cfg, drawn = config(root), []
        seed_everything(cfg.seed)
        trainer = Trainer(cfg, *open_run_data(cfg), cfg.loss.build())
        forward = trainer.forward
        trainer.model.double()
        trainer.ema.double()
        trainer.forward = lambda batch: forward(batch | dict(image=batch["image"].double()))
        steps(trainer, drawn)
        trainer.ema.float()
        validation, histogram, objects = trainer.validate()
        result = dict(drawn=drawn, losses=losses(), validation=validation, tiles=histogram.table.column("tile_id"))
        with open(f"{out}-{world}-{rank}.json", "w") as f:
            json.dump(result, f)
        if rank == 0:
            save_weights(trainer.ema_model, f"{out}-{world}-averaged.safetensors")
            save_weights(trainer.model, f"{out}-{world}-model.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
