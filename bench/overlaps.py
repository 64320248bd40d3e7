"""Finds the public images that show the same ground, and compares them with the list that the package carries.

`python bench/overlaps.py` takes about three minutes on two cores. It prints how many pairs are found, missed and new;
how many of the overlaps that follow from other pairs are found; the smallest overlap that is found in 95 % of synthetic
crops; and the highest correlations left across the splits of a dataset (`--root`). `--figures FOLDER` draws pairs side
by side; `--write FILE` writes the list.
"""

import argparse
import collections
import time
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from rts_nb.core.files import resolve
from rts_nb.core.jobs import progress
from rts_nb.tiles.layout import load_tiles
from rts_nb.tiles.overlaps import (
    compare_images,
    connected_groups,
    highest_across,
    overlapping,
    pairs_among,
    public_overlaps,
)
from rts_nb.tiles.public import find_public_images, image_of_tiles

SHARES = np.arange(0.1, 0.5125, 0.025)  # of the smaller crop; the edges of the classes that are reported


def read_images(folder):
    "Grey values by name; JPEG's darkest pixels are no missing data."
    paths = sorted((folder / "images").glob("*.jpg"))
    return {path.stem: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).clip(1) for path in paths}


def pairs_of(table):
    "The pairs of names of a table, as a set."
    return set(zip(table["image_a"], table["image_b"], strict=True))


# ---------------------------------------------------------------- what follows from other pairs


def neighbours_of(pairs):
    "{name: [(name, rows, columns)]}: each overlapping image at its shift."
    neighbours = collections.defaultdict(list)
    for pair in pairs.itertuples():
        neighbours[pair.image_a].append((pair.image_b, pair.rows, pair.columns))
        neighbours[pair.image_b].append((pair.image_a, -pair.rows, -pair.columns))
    return neighbours


def places_from(start, neighbours):
    "{name: (row, column)} of all images that a chain of pairs links to one, by the shortest chain."
    places, queue = {start: (0, 0)}, collections.deque([start])
    while queue:
        name = queue.popleft()
        for other, rows, columns in neighbours[name]:
            if other not in places:
                places[other] = (places[name][0] + rows, places[name][1] + columns)
                queue.append(other)
    return places


def shared_pixels(shape, other, place):
    "Pixels that two images share, the second at (row, column) of the first."
    spans = [min(n, at + m) - max(0, at) for n, m, at in zip(shape, other, place, strict=True)]
    return max(spans[0], 0) * max(spans[1], 0)


def implied_pairs(pairs, images):
    "Pairs that overlap by the shifts of a chain of pairs: names, share of the smaller image, whether it was found."
    neighbours, found, rows = neighbours_of(pairs), pairs_of(pairs), []
    for name in list(neighbours):
        for other, place in places_from(name, neighbours).items():
            shapes = images[name].shape, images[other].shape
            shared = shared_pixels(*shapes, place)
            if other > name and shared:
                rows.append((name, other, shared / min(np.prod(shapes, axis=1)), (name, other) in found))
    return pd.DataFrame(rows, columns=["image_a", "image_b", "share", "found"])


def largest_contradiction(pairs):
    "The largest difference (pixels) between the shift of a pair and that of the shortest chain without it."
    largest = 0
    for pair in pairs.itertuples():
        others = pairs.drop(index=pair.Index)
        near = others[
            others["image_a"].isin((pair.image_a, pair.image_b)) | others["image_b"].isin((pair.image_a, pair.image_b))
        ]
        place = places_from(pair.image_a, neighbours_of(near)).get(pair.image_b)
        if place is not None:
            largest = max(largest, abs(place[0] - pair.rows), abs(place[1] - pair.columns))
    return largest


# ---------------------------------------------------------------- synthetic crops


def changed(grey, rng):
    "An image up to a fifth brighter or darker, and blurred with a Gaussian of up to 1.5 pixels."
    brighter = np.clip(grey * rng.uniform(0.8, 1.2), 1, 255).astype("u1")
    return cv2.GaussianBlur(brighter, (0, 0), rng.uniform(0.1, 1.5))


def two_crops(grey, share, rng):
    "Two crops of an image, of one size, that share a part of their area; the second is changed."
    height, width = grey.shape
    rows = int(0.85 * height)
    down = int(rng.integers(0, height - rows + 1))
    along = share * rows / (rows - down)  # what the columns have to share
    columns = int(width / (2 - along))
    across = width - columns
    first, second = grey[:rows, :columns], grey[down : down + rows, across:]
    if rng.random() < 0.5:
        first, second = grey[down : down + rows, :columns], grey[:rows, across:]
    return first, changed(second, rng)


def synthetic(images, n, rng):
    "Pairs of crops: share, and whether they were found to overlap."
    rows = []
    for name in progress(rng.choice(list(images), n), "synthetic crops", unit="pair"):
        share = rng.uniform(SHARES[0], SHARES[-1])
        first, second = two_crops(images[name], share, rng)
        rows.append((share, len(overlapping(compare_images(dict(first=first, second=second)))) == 1))
    return pd.DataFrame(rows, columns=["share", "found"])


def smallest_found(trials, least=0.95):
    "The smallest class of shares from which on every class is found in 95 % of its pairs; None if there is none."
    smallest = None
    for share, rate in reversed(list(rates_by_share(trials)["mean"].items())):
        if rate < least:
            break
        smallest = share.left
    return smallest


def rates_by_share(trials, edges=SHARES):
    "Number of pairs and the rate found, by class of share."
    return trials.groupby(pd.cut(trials["share"], edges), observed=True)["found"].agg(["size", "mean"])


# ---------------------------------------------------------------- figures


def draw_pair(axes, images, pair):
    "Two images side by side, with what they share framed."
    a, b = images[pair.image_a], images[pair.image_b]
    height = min(a.shape[0], pair.rows + b.shape[0]) - max(0, pair.rows)
    width = min(a.shape[1], pair.columns + b.shape[1]) - max(0, pair.columns)
    corners = (max(0, pair.columns), max(0, pair.rows)), (max(0, -pair.columns), max(0, -pair.rows))
    for ax, grey, corner, name in zip(axes, (a, b), corners, (pair.image_a, pair.image_b), strict=True):
        ax.imshow(grey, cmap="gray")
        ax.add_patch(plt.Rectangle(corner, width, height, fill=False, edgecolor="yellow"))
        ax.set_title(name, fontsize=8)
        ax.set(xticks=[], yticks=[])
    axes[0].set_ylabel(f"{pair.correlation:.2f}, detail {pair.detail:.2f}", fontsize=8)


def draw_pairs(images, pairs, path, a_row=4):
    "A sheet of pairs."
    n_rows = -(-len(pairs) // a_row)
    figure, axes = plt.subplots(
        n_rows, 2 * a_row, figsize=(4 * a_row, 1.8 * n_rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    cells = axes.reshape(n_rows * a_row, 2)
    for cell, pair in zip(cells, pairs.itertuples(), strict=False):
        for ax in cell:
            ax.set_axis_on()
        draw_pair(cell, images, pair)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# ---------------------------------------------------------------- the report


def print_found(found, images):
    "The list against what was found, and the groups that follow."
    listed, said = pairs_among(images, public_overlaps())
    print(said)
    missed, new = pairs_of(listed) - pairs_of(found), pairs_of(found) - pairs_of(listed)
    both = len(pairs_of(listed) & pairs_of(found))
    print(f"pairs found {len(found)}: {both} listed, {len(new)} new; listed and missed {len(missed)}")
    for kind, pairs in (("new", new), ("missed", missed)):
        for a, b in sorted(pairs)[:20]:
            print(f"  {kind}: {a} {b}")
    sizes = pd.Series(connected_groups(images, found)).value_counts()
    several = sizes[sizes > 1]
    largest = several.max() if len(several) else 1
    print(
        f"{several.sum()} of {len(images)} images overlap another, in {len(several)} groups; the largest has {largest}"
    )
    return new


def print_implied(found, images):
    "Of the overlaps that other pairs imply, how many were found."
    implied = implied_pairs(found, images)
    print("overlaps that chains of pairs imply, by share of the smaller image, and the rate found:")
    print(rates_by_share(implied, [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1]).round(3).to_string())
    print(f"largest contradiction between a pair and a chain: {largest_contradiction(found)} pixels")


def print_synthetic(images, n, seed):
    "The rate at which synthetic crops are found, and the smallest overlap that is found in 95 %."
    trials = synthetic(images, n, np.random.default_rng(seed))
    print(rates_by_share(trials).round(3).to_string())
    smallest = smallest_found(trials)
    stated = "no class of overlaps" if smallest is None else f"overlaps of {smallest:.0%} and more"
    print(f"{stated} found in 95 % of synthetic crops (10–50 %, brightness ± 20 %, blur up to 1.5 pixels)")


def highest_left(pairs, root):
    "Prints the pairs that agree best across the splits of a dataset; a table of them."
    tiles = load_tiles(root)
    split_of = dict(zip(image_of_tiles(tiles), tiles["split"], strict=True))
    rows = []
    for by in ("detail", "correlation"):
        pair = highest_across(pairs, split_of, by)
        if pair is None:
            print(f"no pair across splits by {by}")
            continue
        rows.append(pair)
        ends = f"{pair.image_a} ({pair.group_a}) and {pair.image_b} ({pair.group_b})"
        print(f"highest {by} across splits: {ends}, {pair.pixels} pixels: ", end="")
        print(f"correlation {pair.correlation:.3f}, detail {pair.detail:.3f}")
    left = highest_across(overlapping(pairs), split_of)
    print("no overlapping pair is across splits" if left is None else f"ACROSS SPLITS: {left.image_a} {left.image_b}")
    return pd.DataFrame(rows)


def main(args):
    images = read_images(find_public_images(args.images or None))
    start = time.perf_counter()
    pairs = compare_images(images)
    found = overlapping(pairs)
    print(
        f"{len(images)} images compared in {time.perf_counter() - start:.0f} s; {len(pairs)} pairs at full resolution"
    )
    new = print_found(found, images)
    if len(found):
        print_implied(found, images)
    print_synthetic(images, args.crops, args.seed)
    left = highest_left(pairs, args.root) if args.root else pd.DataFrame()
    if args.write:
        table = found.sort_values(["image_a", "image_b"]).round(3)
        table.to_csv(resolve(args.write), index=False)
    if args.figures:
        folder = Path(args.figures)
        folder.mkdir(parents=True, exist_ok=True)
        is_new = [pair in new for pair in zip(found["image_a"], found["image_b"], strict=True)]
        sheets = dict(
            new=found[is_new].tail(48), least=found.tail(48), random=found.sample(min(48, len(found)), random_state=1)
        )
        sheets |= dict(left=left, refused=pairs.drop(index=found.index).head(24))
        for name, sheet in sheets.items():
            if len(sheet):
                draw_pairs(images, sheet, folder / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="", help="folder with images/ and masks/; default $RTS_PUBLIC_IMAGES")
    parser.add_argument("--root", default="", help="a dataset of import_public, for what is left across its splits")
    parser.add_argument("--crops", type=int, default=4000, help="pairs of synthetic crops")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic crops")
    parser.add_argument("--write", default="", help="file for the list of pairs found")
    parser.add_argument("--figures", default="", help="folder for pictures of pairs")
    main(parser.parse_args())
