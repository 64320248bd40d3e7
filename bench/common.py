"""Timing two things side by side. Rounds alternate, so that a slow moment of the machine hits both; what counts is the ratio within a round."""

import statistics
import subprocess
import sys
import time


def seconds(fn, *args):
    "Wall time of one call."
    start = time.perf_counter()
    fn(*args)
    return time.perf_counter() - start


def compare(ours, peer, rounds=11, warm=True):
    "(median, smallest, largest) ratio of two functions that return their own seconds, and the medians of these; if `warm`, one round before does not count."
    if warm:
        ours(), peer()
    return summary([(ours(), peer()) if k % 2 else (peer(), ours())[::-1] for k in range(rounds)])


def summary(pairs):
    "(median, smallest, largest) ratio of pairs of seconds, and the medians of both."
    ratios = sorted(a / b for a, b in pairs)
    return (
        statistics.median(ratios),
        ratios[0],
        ratios[-1],
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
    )


def verdict(name, measured, limit, at_most=True, unit=1e3):
    "Prints one line: name, ours and the peer (ms), ratio with range, limit, met or missed."
    ratio, low, high, ours, peer = measured
    met = ratio <= limit if at_most else ratio >= limit
    print(
        f"{name:<60}{ours * unit:>10.2f}{peer * unit:>10.2f}{ratio:>8.2f}  ({low:.2f} … {high:.2f})  {'at most' if at_most else 'at least'} {limit:<5}{'met' if met else 'MISSED'}",
        flush=True,
    )


def peak_mb(code):
    "Peak memory (MiB) of a fresh interpreter that runs `code`; not ru_maxrss, which starts at what the parent held when it started the child."
    read = "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    return (
        int(
            subprocess.run(
                [sys.executable, "-c", f"{code}\n{read}"], check=True, capture_output=True, text=True
            ).stdout.split()[-2]
        )
        / 1024
    )
