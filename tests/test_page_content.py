"""What goes into map.html: imagery that is gone is left out, pictures stay small, kept copies are those published."""

import base64
import hashlib
import io
import re

from PIL import Image
from programs import ROOT
from toy_page import draw_map

from rts_nb.core.files import write_json
from rts_nb.mapping.page import write_page
from rts_nb.mapping.quicklooks import imagery_of_map, picture_size

VENDOR = ROOT / "rts_nb" / "templates" / "vendor"


def test_imagery_that_is_gone_or_another_one_is_left_out(tmp_path):
    folder = draw_map(tmp_path, {"s0": 2, "s1": 2})
    assert list(imagery_of_map(folder).scenes) == ["s0", "s1"]
    (tmp_path / "scenes" / "s1.tif").write_bytes(b"no raster")
    text = write_page(folder).read_text(encoding="utf-8")
    assert "No imagery of 1 of 2 scenes: it is not where it was, or cannot be read." in text


def test_pictures_of_many_scenes_stay_small(tmp_path):
    folder = draw_map(tmp_path, {f"s{k}": 1 for k in range(12)}, side=400)
    text = write_page(folder).read_text(encoding="utf-8")
    found = re.findall(r"data:image/webp;base64,([\w+/=]+)", text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in found]
    assert sizes == [(400, 400)] * 12
    assert max(map(len, found)) * 3 / 4 <= picture_size(12).n_bytes


def test_kept_copies_are_those_that_were_published():
    rows = re.findall(r"^\| `(.*?)` .* \| `(\w{64})` \|$", (VENDOR / "README.md").read_text(encoding="utf-8"), re.M)
    assert {name for name, _ in rows} == {path.name for path in VENDOR.iterdir()} - {"README.md"}
    for name, expected in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == expected, name


def test_a_log_without_caveats_says_so(tmp_path):
    folder = draw_map(tmp_path, {"s0": 1})
    write_json(folder / "inference_log.json", dict(warnings=[]))
    assert "No caveats are known." in write_page(folder).read_text(encoding="utf-8")
