"""Nothing is written to a bucket, by its URL or through a folder that a program mounts; scenes are read from there."""

import zipfile

import numpy as np
import pytest
from programs import ROOT, run_python
from rasterio.transform import from_origin

from rts_nb.core import disks
from rts_nb.core.files import RTSError
from rts_nb.mapping.folder import lock_map
from rts_nb.mapping.starting import check_out_dir
from rts_nb.predict.scenes import list_scenes
from rts_nb.reviewing.sample import draw_review
from rts_nb.runs.directory import lock_run
from rts_nb.runs.handed_over import CHECKSUMS, opened_model
from rts_nb.settings.places import runs_root
from rts_nb.tiles.layout import prepared_folder, write_raster


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    "A folder that gcsfuse mounts, as far as this process can tell; everything else is on a disk."
    mounts = f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / {tmp_path}/bucket rw - fuse.gcsfuse rts rw\n"
    monkeypatch.setattr(disks, "mount_table", lambda: mounts)
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


def enter(context):
    with context:
        pass


def open_archive(place):
    with zipfile.ZipFile(f"{place}.zip", "w") as archive:
        archive.writestr(CHECKSUMS, "")
    opened_model(f"{place}.zip")


WRITERS = {
    "run": lambda place: enter(lock_run(place)),
    "map": lambda place: check_out_dir(place, {}),
    "merged map": lambda place: enter(lock_map(place)),
    "dataset": lambda place: enter(prepared_folder(place, {})),
    "review": lambda place: draw_review("map", place),
    "model of an archive": open_archive,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_mounted_bucket_is_refused(what, bucket):
    with pytest.raises(
        RTSError, match="is on a bucket that gcsfuse mounts at .*no lock.*; name a folder of a disk"
    ) as e:
        WRITERS[what](bucket / "deep" / "place" if what != "model of an archive" else bucket / "place")
    assert len(str(e.value).splitlines()) == 1
    assert [path.suffix for path in bucket.rglob("*")] in ([], [".zip"]), "nothing was written"


def test_a_link_into_a_bucket_is_refused(bucket, tmp_path):
    (tmp_path / "runs").symlink_to(bucket)
    with pytest.raises(RTSError, match="is on a bucket"):
        enter(lock_run(tmp_path / "runs" / "test" / "seed-42"))


def test_the_root_of_runs_is_refused(bucket, monkeypatch):
    for place in (bucket / "runs", "gs://rts/runs", "s3://rts/runs", "/vsigs/rts/runs"):
        monkeypatch.setenv("RTS_RUNS", str(place))
        with pytest.raises(RTSError, match="^RTS_RUNS "):
            runs_root()


def test_a_disk_inside_and_beside_is_not(bucket, tmp_path, monkeypatch):
    with lock_run(tmp_path / "bucketful") as folder:
        assert folder.is_dir()
    inside = f"\n3 2 8:2 / {bucket}/disk rw - ext4 /dev/sdb1 rw\n"
    mounts = disks.mount_table() + inside
    monkeypatch.setattr(disks, "mount_table", lambda: mounts)
    with lock_run(bucket / "disk" / "run") as folder:
        assert folder.is_dir()


def test_scenes_are_read_from_a_bucket(bucket):
    write_raster(bucket / "a.tif", np.full((3, 8, 8), 90, "u1"), from_origin(-2e6, 6e5, 3, 3))
    scenes = list_scenes(str(bucket))
    assert list(scenes) == ["a"] and not scenes["a"].fault


def test_the_command_refuses_a_url():
    "As it is typed, where the path has lost one of its slashes on the way."
    done = run_python("-m", "rts_nb.train", "--config", "configs/test.yaml", "--run-dir=gs://rts/seed-42")
    assert done.returncode == 1 and "is a URL, where nothing is renamed" in done.stderr, done.stderr[-500:]
    assert not (ROOT / "gs:").exists()
