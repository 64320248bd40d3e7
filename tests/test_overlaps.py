"""Images that show the same ground: on one side of a split where they are listed, found by check_data where not."""

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import REAL_IMAGES
from programs import last_line, run_python

from rts_nb.core.files import write_json
from rts_nb.tiles.layout import dataset_info
from rts_nb.tiles.overlaps import compare_images, overlapping, pairs_among, public_overlaps
from rts_nb.tiles.public import import_public, list_public_images

NEEDS_IMAGES = pytest.mark.skipif(not REAL_IMAGES, reason="the public images are not here (RTS_PUBLIC_IMAGES)")
NAMES = ["train_none_000", "train_none_010", "train_none_020"]  # of a set that the list does not know


@pytest.fixture
def crops(tmp_path):
    """images/ and masks/ of three images: two crops of one ground, whose names are ten apart, and another ground.

    Each has tiles with and without a slump."""
    rng = np.random.default_rng(5)
    grounds = [cv2.GaussianBlur(rng.normal(110, 120, (140, 420)), (0, 0), 2).clip(1, 254) for _ in range(2)]
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for name, grey in zip(NAMES, (grounds[0][:, :290], grounds[0][:, 130:], grounds[1][:, :290]), strict=True):
        mask = np.zeros(grey.shape, "u1")
        mask[20:60, 10:50] = 255
        cv2.imwrite(str(tmp_path / "set" / "images" / f"{name}.jpg"), np.stack([grey] * 3, axis=-1).astype("u1"))
        cv2.imwrite(str(tmp_path / "set" / "masks" / f"{name}.jpg"), mask)
    return tmp_path / "set"


def check_data(root, *options):
    "The finished check of a dataset of public images with tiles of 128 pixels."
    words = ("--config", "configs/public.yaml", "--root", root, "--figure", root.with_name("batch.png"))
    changes = "data.tile_size=128 sampling.batch_size=2 loader.num_workers=0"
    return run_python("check_data.py", *words, "--overrides", changes, *options)


def test_check_data_finds_shared_ground(tmp_path, crops):
    root = import_public(crops, tmp_path / "tiles")
    without = check_data(root)
    assert without.returncode == 0, without.stdout + without.stderr
    assert "positions are invented, so they do not show overlaps; --overlaps looks" in without.stdout
    done = check_data(root, "--overlaps")
    assert done.returncode == 1, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "shows the ground of" in line)
    assert "train_none_000" in line and "train_none_010" in line and "correlation 0.9" in line, line
    assert "put their regions into one split" in line


def test_groups_keep_shared_ground_on_one_side(tmp_path, crops):
    "The same set and a fourth image; the pair is named to the importer, so no tile shares ground across splits."
    for part in ("images", "masks"):
        image = cv2.imread(str(crops / part / "train_none_020.jpg"))
        cv2.imwrite(str(crops / part / "train_none_030.jpg"), image[::-1])
    pair = pd.DataFrame([(*NAMES[:2], 0.99)], columns=["image_a", "image_b", "correlation"])
    root = import_public(crops, tmp_path / "tiles", overlaps=pair)
    assert dataset_info(root)["report"]["overlapping images"].startswith("2 of 4 images overlap another, in 1 groups")
    done = check_data(root, "--overlaps")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dataset_of_before_is_refused(tmp_path, crops):
    root = import_public(crops, tmp_path / "tiles")
    info = dataset_info(root)
    del info["report"]
    write_json(root / "version.json", info)
    done = check_data(root)
    assert done.returncode == 1
    assert "imported before overlapping images were kept on one side of a split; delete it" in done.stdout + done.stderr


def test_names_that_are_not_in_the_set_are_said(tmp_path, crops, capsys):
    import_public(crops, tmp_path / "tiles")
    assert f"0 of {len(public_overlaps())} listed pairs of overlapping images apply; ignored" in capsys.readouterr().out


def test_bench_reports_a_set(tmp_path, crops):
    "On three images: one pair, which is new to the list; nothing to compare with."
    options = ("--images", crops, "--crops", "20", "--write", tmp_path / "list.csv", "--figures", tmp_path / "figures")
    done = run_python("bench/overlaps.py", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pairs found 1: 0 listed, 1 new; listed and missed 0" in done.stdout
    assert pd.read_csv(tmp_path / "list.csv")[["image_a", "image_b"]].to_numpy().tolist() == [NAMES[:2]]
    assert (tmp_path / "figures" / "new.png").stat().st_size > 10_000
    assert "synthetic crops (10–50 %" in last_line(done.stdout)


@NEEDS_IMAGES
def test_no_listed_pair_is_in_two_regions():
    images = {image.path.stem: image for image in list_public_images(REAL_IMAGES)}
    pairs = public_overlaps()
    assert set(pairs.image_a) | set(pairs.image_b) <= set(images), "the list names images of the set"
    ends = [(images[a], images[b]) for a, b in zip(pairs.image_a, pairs.image_b, strict=True)]
    assert len(ends) > 1000
    assert all(a.group == b.group and a.region == b.region for a, b in ends)
    assert len({image.region for image in images.values()}) > 50


@NEEDS_IMAGES
def test_real_pairs_are_found_again():
    "Forty neighbours: their listed pairs that share a tenth are found, and no pair that is not listed."
    paths = sorted((REAL_IMAGES / "images").glob("*.jpg"))[230:270]
    grey = {path.stem: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).clip(1) for path in paths}
    found = overlapping(compare_images(grey))
    listed, _ = pairs_among(grey, public_overlaps())
    pairs = set(zip(found.image_a, found.image_b, strict=True))
    wide = listed[listed.share > 0.1]
    assert pairs <= set(zip(listed.image_a, listed.image_b, strict=True))
    assert len(wide) >= 20 and set(zip(wide.image_a, wide.image_b, strict=True)) <= pairs
