"""`python tests/killed.py WHERE ...`: python -m rts_nb.train, which kills itself (SIGKILL) at WHERE.

time:S          S seconds after the network is built
step:N          after the backward pass of the Nth step, before the optimiser
validation:N    in the middle of the Nth batch of validation
write:N         when half of the Nth checkpoint is on disk
rename:N        between the two renames of the Nth checkpoint
best            when half of the best weights is on disk
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


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def nth(n, fn, act):
    "`fn`, but its nth call is `act` of the same arguments."
    calls = iter(range(1, 10**9))

    def counted(*args, **kwargs):
        return (act if next(calls) == n else fn)(*args, **kwargs)

    return counted


def half_of(save):
    "Saves, cuts the file in half, and dies."

    def act(what, file, *args, **kwargs):
        save(what, file, *args, **kwargs)
        path = Path(file.name if hasattr(file, "flush") else file)  # an open file, or a path
        if hasattr(file, "flush"):
            file.flush()
        os.truncate(path, path.stat().st_size // 2)
        die()

    return act


def arm(where, n):
    if where == "time":
        init = Trainer.__init__

        def started(*args):
            init(*args)
            threading.Timer(n, die).start()

        Trainer.__init__ = started
    elif where == "step":
        torch.nn.utils.clip_grad_norm_ = nth(n, torch.nn.utils.clip_grad_norm_, lambda *a, **k: die())
    elif where == "validation":
        ObjectCounts.add = nth(n, ObjectCounts.add, lambda *a, **k: die())
    elif where == "write":
        torch.save = nth(n, torch.save, half_of(torch.save))
    elif where == "rename":
        replace = os.replace

        def first_only(a, b):
            replace(a, b)
            die() if Path(b).name == "previous.pt" and next(count) == n else None

        count = iter(range(1, 10**9))
        os.replace = first_only
    elif where == "best":
        loop.save_weights = half_of(loop.save_weights)
    elif where == "finish":
        loop.confirm_model = lambda *a: die()
    else:
        raise SystemExit(f"unknown place {where!r}")


if __name__ == "__main__":
    where, _, n = sys.argv[1].partition(":")
    arm(where, float(n) if where == "time" else int(n or 1))
    train.main(sys.argv[2:])
