"""Timing two things side by side.

Rounds alternate, so that a slow moment of the machine hits both; what counts is the ratio within a round. Every verdict
is also appended as a line of JSON to the file that RTS_BENCH_RECORD names, where it is set: `bench/report.py` reads it.
"""

import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

RECORD = "RTS_BENCH_RECORD"  # environment variable: the file that verdicts are appended to
PER_UNIT = {"ms": 1e3}  # what a value in seconds is multiplied by to be shown; other units are shown as they are


class Measured(NamedTuple):
    "A ratio over several rounds, and the medians of what it was made of."

    ratio: float  # median
    low: float  # smallest
    high: float  # largest
    ours: float  # the first of the two: seconds, or MiB
    peer: float  # the second
    rounds: int = 1


def processor() -> str:
    "The name of this machine's processor."
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


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
        rounds=len(pairs),
    )


def once(ours: float, peer: float) -> Measured:
    "The ratio of two values that were measured once, such as peaks of memory."
    return summarize([(ours, peer)])


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


def record(row: str, **values) -> None:
    "Appends a line of JSON with these values to the file that RTS_BENCH_RECORD names; nothing where it is not set."
    place = os.environ.get(RECORD)
    if not place:
        return
    line = json.dumps(dict(bench=Path(sys.argv[0]).stem, row=row) | values, ensure_ascii=False)
    with open(place, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def is_met(value: float, limit: float | None, at_most: bool) -> bool | None:
    "Whether a value keeps its limit; None where nothing was asked for."
    if limit is None:
        return None
    return value <= limit if at_most else value >= limit


def record_verdict(name: str, measured: Measured, limit: float | None, at_most: bool, unit: str) -> None:
    """Records one ratio. At most: ours / peer. At least: peer / ours, so that the first of the two is the peer's."""
    first, second = (value * PER_UNIT.get(unit, 1) for value in (measured.ours, measured.peer))
    ours, peer = (first, second) if at_most else (second, first)
    record(
        name,
        ours=ours,
        peer=peer,
        unit=unit,
        ratio=measured.ratio,
        low=measured.low,
        high=measured.high,
        rounds=measured.rounds,
        limit=limit,
        at_most=at_most,
        met=is_met(measured.ratio, limit, at_most),
    )


def print_verdict(name: str, measured: Measured, limit: float | None, at_most=True, unit="ms") -> None:
    "Prints one line and records it: name, ours and the peer in a unit, ratio with range, limit, met or missed."
    times = "".join(f"{value * PER_UNIT.get(unit, 1):>10.2f}" for value in (measured.ours, measured.peer))
    ratios = f"{measured.ratio:>8.2f}  ({measured.low:.2f} … {measured.high:.2f})"
    wanted = ""
    if limit is not None:
        met = met_or_missed(bool(is_met(measured.ratio, limit, at_most)))
        wanted = f"{'at most' if at_most else 'at least'} {limit:<5}{met}"
    print(f"{name:<60}{times}{ratios}  {wanted}", flush=True)
    record_verdict(name, measured, limit, at_most, unit)


def leave_out(row: str, why: str) -> None:
    "Says and records that a row was not measured."
    print(f"{row}: left out, {why}", flush=True)
    record(row, left_out=why)


def met_or_missed(met: bool) -> str:
    return "met" if met else "MISSED"


def log_slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    "The slope of log value over log size by least squares; 1 is linear. ValueError without two sizes above 0."
    if len(set(sizes)) < 2 or min(*sizes, *values) <= 0:
        raise ValueError(f"sizes {list(sizes)} and values {list(values)}; expected two sizes or more, all above 0")
    x, y = ([math.log(value) for value in numbers] for numbers in (sizes, values))
    return statistics.linear_regression(x, y).slope


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
