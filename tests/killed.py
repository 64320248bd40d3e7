"""`python tests/killed.py WHERE ...`: python -m rts_nb.train, which kills itself (SIGKILL) at WHERE.

time:S          S seconds after the network is built
step:N          after the backward pass of the Nth step, before the optimiser
validation:N    in the middle of the Nth batch of validation
write:N         when half of the Nth checkpoint is on disk
rename:N        between the two renames of the Nth checkpoint
best            when half of the best weights is on disk
move:N          after the Nth rename of what is set aside to start over
finish          when the model is written and its confirmation has begun
"""

import os
import signal
import sys
import threading
from pathlib import Path

import torch

from rts_nb import train
from rts_nb.scores.counts import ObjectCounts
from rts_nb.training import loop
from rts_nb.training.trainer import Trainer


def die(*args, **kwargs):
    "Ends this process as a power failure would; takes the place of any function."
    os.kill(os.getpid(), signal.SIGKILL)


def replace_nth_call(n, function, replacement):
    "`function`, but its nth call goes to `replacement`, with the same arguments."
    calls = 0

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        called = replacement if calls == n else function
        return called(*args, **kwargs)

    return counted


def save_half(save):
    "A function that saves, cuts the file in half, and dies."

    def half(what, file, *args, **kwargs):
        save(what, file, *args, **kwargs)
        is_open = hasattr(file, "flush")  # an open file, or else a path
        if is_open:
            file.flush()
        path = Path(file.name if is_open else file)
        os.truncate(path, path.stat().st_size // 2)
        die()

    return half


def die_after(seconds):
    build = Trainer.__init__

    def built(*args):
        build(*args)
        threading.Timer(seconds, die).start()

    Trainer.__init__ = built


def die_after_rename(n, is_counted):
    "Dies after the n-th rename whose target is counted."
    rename = os.replace
    counted = 0

    def renamed(source, target):
        nonlocal counted
        rename(source, target)
        counted += is_counted(Path(target))
        if counted == n and is_counted(Path(target)):
            die()

    os.replace = renamed


def is_previous_checkpoint(target):
    return target.name == "previous.pt"


def is_set_aside(target):
    return target.parent.name.startswith(".run.2")


def arm(where, n):
    "Replaces what is called at the place `where`, so that it dies there."
    if where == "time":
        die_after(n)
    elif where == "step":
        torch.nn.utils.clip_grad_norm_ = replace_nth_call(n, torch.nn.utils.clip_grad_norm_, die)
    elif where == "validation":
        ObjectCounts.add = replace_nth_call(n, ObjectCounts.add, die)
    elif where == "write":
        torch.save = replace_nth_call(n, torch.save, save_half(torch.save))
    elif where == "rename":
        die_after_rename(n, is_previous_checkpoint)
    elif where == "move":
        die_after_rename(n, is_set_aside)
    elif where == "best":
        loop.save_weights = save_half(loop.save_weights)
    elif where == "finish":
        loop.confirm_model = die
    else:
        raise SystemExit(f"unknown place {where!r}")


if __name__ == "__main__":
    where, _, number = sys.argv[1].partition(":")
    arm(where, float(number) if where == "time" else int(number or 1))
    train.main(sys.argv[2:])
