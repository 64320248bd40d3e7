"""What scoring costs, as ratios against the plain way: `python bench/metrics.py [histogram] [forward] [memory] [objects]`.

histogram  10⁸ pixels into a score histogram and PR-AUC at three ratios, against scikit-learn's PR-AUC on the same scores at one
forward    a batch into the histogram, as a share of the forward pass that made its scores (UNet++/B5 at 512 px, the small network at 128 px)
memory     peak memory of the first, beyond the scores themselves
objects    object matching on 4096 x 4096 pixels, 2,000 objects a side over 3 % of them, against scipy's labelling of the two masks; and on four times the pixels
Nothing else should run meanwhile; all of it takes about six minutes. Times are milliseconds.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from common import compare, peak_mb, seconds, verdict
from scipy import ndimage
from sklearn.metrics import average_precision_score

from rts_nb.networks.models import build_model
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.scores.objects import label_objects, match_objects
from rts_nb.settings.config import load_config

SIZE, TILES, RATIOS = 512, 384, (200, 500, 1000)  # 10⁸ pixels


def scored(tiles=TILES, size=SIZE, seed=0):
    "Logits and labels of tiles, one pixel in a thousand RTS, all of these in every tenth tile; filled in place, so that the peak of memory is theirs."
    rng = np.random.default_rng(seed)
    labels, logits = np.zeros((tiles, 1, size, size), np.uint8), np.empty((tiles, 1, size, size), np.float32)
    for k in range(tiles):
        if k % 10 == 0:
            labels[k] = rng.random((1, size, size), dtype=np.float32) < 0.01
        logits[k] = np.where(labels[k] == 1, np.float32(3), np.float32(-5)) + 2 * rng.standard_normal(
            (1, size, size), dtype=np.float32
        )
    return logits, labels


def pour(logits, labels, batch=32):
    "PR-AUC at three ratios from one pass in batches, as validation does it."
    h = ScoreHistogram()
    for i in range(0, len(logits), batch):
        h.add(logits[i : i + batch], labels[i : i + batch])
    return [h.pr_auc(r) for r in RATIOS]


def histogram():
    logits, labels = scored()
    ours, peer = (
        lambda: seconds(pour, logits, labels),
        lambda: seconds(average_precision_score, labels.ravel(), logits.ravel()),
    )
    ratio, low, high, a, b = compare(peer, ours, rounds=3, warm=False)
    verdict("scikit-learn (left) / histogram and 3 PR-AUC, 10⁸ px", (ratio, low, high, a, b), 20, at_most=False)
    print(f"    intervals are {max(v.high - v.low for v in pour(logits, labels)):.1e} wide at most")


def forward():
    for name, config, size, batch, rounds in (
        ("UNet++/B5, 512 px, a batch of 2", "baseline", 512, 2, 5),
        ("small network, 128 px, a batch of 16", "public", 128, 16, 11),
    ):
        cfg = load_config(f"configs/{config}.yaml", "model.encoder_weights=null")
        model, (_, labels) = build_model(cfg.model).eval(), scored(batch, size)
        image, h = torch.randn(batch, 3, size, size), ScoreHistogram()
        with torch.inference_mode():
            logits = model(image).float()

        def run():
            with torch.inference_mode():
                model(image)

        verdict(
            f"histogram / forward, {name}",
            compare(lambda: seconds(h.add, logits, labels), lambda: seconds(run), rounds),
            0.03,
        )


def memory():
    code = "import sys; sys.path.insert(0, {here!r}); from metrics import pour, scored; a = scored({n}); {then}"
    here = str(Path(__file__).parent)
    alone, with_all = (peak_mb(code.format(here=here, n=TILES, then=then)) for then in ("pass", "pour(*a)"))
    print(
        f"{'peak memory of scores, and with the histogram (MiB)':<60}{alone:>10.0f}{with_all:>10.0f}   {with_all - alone:.0f} more, at most 100"
    )


def blobs(size, n, share, rng):
    "A map of n discs that cover about `share` of size x size pixels, some touching."
    out = np.zeros((size, size), bool)
    radius = np.sqrt(share * size * size / n / np.pi)
    for y, x, r in zip(*rng.integers(0, size, (2, n)), radius * rng.uniform(0.6, 1.3, n)):
        top, left, r = max(y - int(r), 0), max(x - int(r), 0), int(r)
        yy, xx = np.ogrid[top : min(y + r + 1, size), left : min(x + r + 1, size)]
        out[top : y + r + 1, left : x + r + 1] |= (yy - y) ** 2 + (xx - x) ** 2 <= r * r
    return out


def scene(size, n, share=0.036, seed=0):
    "Probabilities and truth: half of the predicted objects are shifted true ones."
    rng = np.random.default_rng(seed)
    truth = blobs(size, n, share, rng)
    half = blobs(size, n // 2, share / 2, rng) | np.roll(truth, (3, 2), (0, 1)) & (np.arange(size) < size // 2)
    return np.where(half, np.float32(0.9), np.float32(0.05)) + np.float32(0.04) * rng.random(
        (size, size), dtype=np.float32
    ), truth.astype(np.uint8)


def objects():
    cost = {}
    for size, n, share in ((4096, 2100, 0.036), (8192, 8400, 0.036), (4096, 2600, 0.17)):
        p, t = scene(size, n, share)
        masks = p >= 0.5, t == 1
        print(
            f"    {size} px: {[label_objects(m)[1] for m in masks]} objects over {[f'{m.mean():.1%}' for m in masks]}"
        )
        label_both = lambda: [ndimage.label(m, np.ones((3, 3))) for m in masks]
        measured = compare(lambda: seconds(match_objects, p, t), lambda: seconds(label_both), rounds=7)
        if share < 0.1:
            cost[size] = measured[3]
        verdict(f"matching / labelling both, {size} px, {masks[1].mean():.1%}", measured, 1.5 if share < 0.1 else 2.3)
    print(
        f"{'matching, four times the pixels':<60}{1e3 * cost[8192]:>10.2f}{1e3 * cost[4096]:>10.2f}{cost[8192] / cost[4096]:>8.2f}  at most 4.4"
    )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["histogram", "forward", "memory", "objects"]
    print(f"{'':<60}{'ours':>10}{'peer':>10}{'ratio':>8}")
    for name in wanted:
        globals()[name]()
