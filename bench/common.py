"""Timing two things side by side.

Rounds alternate, so that a slow moment of the machine hits both; what counts is the ratio within a round.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple


class Measured(NamedTuple):
    "A ratio over several rounds, and the medians of what it was made of."

    ratio: float  # median
    low: float  # smallest
    high: float  # largest
    ours: float  # seconds
    peer: float  # seconds


def wait_for_device() -> None:
    "Waits until a GPU has done what it was given; nothing without one."
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(function: Callable, *args, **kwargs) -> float:
    "Wall time of one call, what it left a GPU to do included."
    wait_for_device()
    start = time.perf_counter()
    function(*args, **kwargs)
    wait_for_device()
    return time.perf_counter() - start


def summarize(pairs: list[tuple[float, float]]) -> Measured:
    "The ratios of pairs (ours, peer) of seconds."
    ratios = [ours / peer for ours, peer in pairs]
    return Measured(
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        ours=statistics.median(ours for ours, _ in pairs),
        peer=statistics.median(peer for _, peer in pairs),
    )


def compare(
    ours: Callable[[], float],  # returns its own seconds
    peer: Callable[[], float],  # likewise
    rounds=11,
    warm=True,  # one round before, which does not count
) -> Measured:
    "Two functions side by side, in alternating order."
    if warm:
        ours()
        peer()
    pairs = []
    for k in range(rounds):
        if k % 2:
            first = ours()
            pairs.append((first, peer()))
        else:
            first = peer()
            pairs.append((ours(), first))
    return summarize(pairs)


def print_header() -> None:
    "The heads of the columns of `verdict`."
    print(f"{'':<60}{'ours':>10}{'peer':>10}{'ratio':>8}")


def print_verdict(name: str, measured: Measured, limit: float, at_most=True, unit=1e3) -> None:
    "Prints one line: name, ours and the peer (ms, or s where `unit` is 1), ratio with range, limit, met or missed."
    met = measured.ratio <= limit if at_most else measured.ratio >= limit
    times = f"{measured.ours * unit:>10.2f}{measured.peer * unit:>10.2f}"
    ratios = f"{measured.ratio:>8.2f}  ({measured.low:.2f} … {measured.high:.2f})"
    wanted = f"{'at most' if at_most else 'at least'} {limit:<5}"
    print(f"{name:<60}{times}{ratios}  {wanted}{met_or_missed(met)}", flush=True)


def met_or_missed(met: bool) -> str:
    return "met" if met else "MISSED"


def cost_of(function: Callable, *args, start: str = "spawn") -> tuple[Any, float]:
    """What a function, which a module defines, returns in another process, and the peak memory (MiB) of that.

    `start` is 'spawn', a fresh interpreter, or 'fork', which begins with what this process holds, its libraries."""
    with ProcessPoolExecutor(1, multiprocessing.get_context(start)) as pool:
        return pool.submit(_result_and_peak, function, args).result()


def peak_mb(function: Callable, *args) -> float:
    "Peak memory (MiB) of a fresh interpreter that calls a function, which a module defines."
    return cost_of(function, *args)[1]


def _result_and_peak(function: Callable, args: tuple) -> tuple[Any, float]:
    "Not from ru_maxrss, which starts at what the parent held when it started this process."
    result = function(*args)
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return result, int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no line VmHWM; peak memory is read on Linux only")
