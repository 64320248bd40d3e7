"""What scoring costs, as ratios against the plain way: `python bench/metrics.py [ROW ...]`.

histogram  10⁸ pixels into a score histogram and PR-AUC at three ratios, against scikit-learn's PR-AUC on the same
           scores at one
forward    a batch into the histogram, as a share of the forward pass that made its scores (UNet++/B5 at 512 px, the
           small network at 128 px)
memory     peak memory of the first, beyond the scores themselves
objects    object matching on 4096 x 4096 pixels, 2,000 objects a side over 3 % of them, against scipy's labelling of
           the two masks; and on four times the pixels
Without a row, all of them: about eight minutes, in which nothing else should run. Times are milliseconds.
"""

import sys

import numpy as np
import torch
from common import compare, once, peak_mb, print_header, print_verdict, seconds
from scipy import ndimage
from sklearn.metrics import average_precision_score

from rts_nb.networks.models import build_model
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.scores.objects import label_objects, match_objects
from rts_nb.settings.config import load_config

SIZE, TILES = 512, 384  # 10⁸ pixels
RATIOS = (200, 500, 1000)


def simulate_scores(tiles=TILES, size=SIZE, seed=0):
    """Logits and labels of tiles, one pixel in a thousand RTS, all of these in every tenth tile.

    The arrays are filled in place, so that the peak of memory is theirs.
    """
    rng = np.random.default_rng(seed)
    shape = (1, size, size)
    labels = np.zeros((tiles, *shape), np.uint8)
    logits = np.empty((tiles, *shape), np.float32)
    for k in range(tiles):
        if k % 10 == 0:
            labels[k] = rng.random(shape, dtype=np.float32) < 0.01
        centre = np.where(labels[k] == 1, np.float32(3), np.float32(-5))
        logits[k] = centre + 2 * rng.standard_normal(shape, dtype=np.float32)
    return logits, labels


def score(logits, labels, batch=32):
    "PR-AUC at three ratios from one pass in batches, as validation does it."
    histogram = ScoreHistogram()
    for i in range(0, len(logits), batch):
        histogram.add(logits[i : i + batch], labels[i : i + batch])
    return [histogram.pr_auc(ratio) for ratio in RATIOS]


def bench_histogram():
    logits, labels = simulate_scores()

    def ours():
        return seconds(score, logits, labels)

    def peer():
        return seconds(average_precision_score, labels.ravel(), logits.ravel())

    measured = compare(peer, ours, rounds=5, warm=False)
    print_verdict("scikit-learn (left) / histogram and 3 PR-AUC, 10⁸ px", measured, 20, at_most=False)
    widest = max(auc.high - auc.low for auc in score(logits, labels))
    print(f"    intervals are {widest:.1e} wide at most")


def compare_with_forward(name, config, size, batch, rounds):
    "Counting a batch against the forward pass that scores it."
    cfg = load_config(f"configs/{config}.yaml", "model.encoder_weights=null")
    model = build_model(cfg.model).eval()
    image = torch.randn(batch, 3, size, size)
    _, labels = simulate_scores(batch, size)
    histogram = ScoreHistogram()

    @torch.inference_mode()
    def forward():
        return model(image)

    logits = forward().float()
    measured = compare(lambda: seconds(histogram.add, logits, labels), lambda: seconds(forward), rounds)
    print_verdict(f"histogram / forward, {name}", measured, 0.03)


def bench_forward():
    compare_with_forward("UNet++/B5, 512 px, a batch of 2", "baseline", 512, 2, rounds=5)
    compare_with_forward("small network, 128 px, a batch of 16", "public", 128, 16, rounds=11)


def simulate_and_score():
    score(*simulate_scores())


def bench_memory():
    scores, whole = peak_mb(simulate_scores), peak_mb(simulate_and_score)
    print(f"    peak memory of scores {scores:.0f} MiB, and with the histogram {whole:.0f} MiB")
    print_verdict("memory that the histogram adds / 100 MiB", once(whole - scores, 100), 1.0, unit="MiB")


def draw_discs(size, n, share, rng):
    "A map of n discs that cover about `share` of size x size pixels, some touching."
    out = np.zeros((size, size), bool)
    radius = np.sqrt(share * size * size / n / np.pi)
    rows, cols = rng.integers(0, size, (2, n))
    radii = (radius * rng.uniform(0.6, 1.3, n)).astype(int)
    for y, x, r in zip(rows, cols, radii, strict=True):
        top, bottom = max(y - r, 0), min(y + r + 1, size)
        left, right = max(x - r, 0), min(x + r + 1, size)
        yy, xx = np.ogrid[top:bottom, left:right]
        out[top:bottom, left:right] |= (yy - y) ** 2 + (xx - x) ** 2 <= r * r
    return out


def draw_scene(size, n, share, seed=0):
    "Probabilities and truth: half of the predicted objects are shifted true ones."
    rng = np.random.default_rng(seed)
    truth = draw_discs(size, n, share, rng)
    false = draw_discs(size, n // 2, share / 2, rng)
    shifted = np.roll(truth, (3, 2), (0, 1)) & (np.arange(size) < size // 2)
    predicted = false | shifted
    noise = np.float32(0.04) * rng.random((size, size), dtype=np.float32)
    return np.where(predicted, np.float32(0.9), np.float32(0.05)) + noise, truth.astype(np.uint8)


def compare_with_labelling(size, n, share, limit):
    "Matching against labelling the two masks, measured."
    probability, truth = draw_scene(size, n, share)
    masks = probability >= 0.5, truth == 1
    counts = [label_objects(mask)[1] for mask in masks]
    print(f"    {size} px: {counts} objects over {[f'{mask.mean():.1%}' for mask in masks]}")

    def label_both():
        for mask in masks:
            ndimage.label(mask, np.ones((3, 3)))

    measured = compare(lambda: seconds(match_objects, probability, truth), lambda: seconds(label_both), rounds=7)
    print_verdict(f"matching / labelling both, {size} px, {masks[1].mean():.1%}", measured, limit)
    return measured


def bench_objects():
    small = compare_with_labelling(4096, 2100, 0.036, limit=1.5)
    large = compare_with_labelling(8192, 8400, 0.036, limit=1.5)
    compare_with_labelling(4096, 2600, 0.17, limit=2.3)
    growth = once(large.ours, small.ours)._replace(rounds=large.rounds)
    print_verdict("matching, four times the pixels / the pixels", growth, 4.4)


ROWS = {
    "histogram": bench_histogram,
    "forward": bench_forward,
    "memory": bench_memory,
    "objects": bench_objects,
}

if __name__ == "__main__":
    print_header()
    for row in sys.argv[1:] or ROWS:
        ROWS[row]()
