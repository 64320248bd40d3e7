"""Suspect labels from the page to the next version of a dataset, judged in a real browser by keyboard."""

import json

import pytest
from browser import needs_chromium, opened
from test_review_page import begin, press, save

from rts_nb.core.files import ConfigError, DataError
from rts_nb.labels import check_nothing_named, planted_places
from rts_nb.reviewing.items import read_items
from rts_nb.reviewing.page import batch_items
from rts_nb.reviewing.report import pages_table
from rts_nb.reviewing.verdicts import read_verdicts
from rts_nb.suspects.candidates import read_label
from rts_nb.suspects.corrected import corrected_version, corrections_of, write_corrections
from rts_nb.suspects.planted import plant_errors
from rts_nb.suspects.ranking import find_suspects, judge_of
from rts_nb.suspects.review import draw_suspects, write_suspect_pages
from rts_nb.tiles.layout import dataset_info
from rts_nb.train import sample_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder with data in which errors are planted, and the page of six suspects in review/."
    folder = tmp_path_factory.mktemp("labels")
    run = sample_run()
    judge = judge_of(run, tta="none")
    plant_errors(judge.root, folder / "data", judge.tiles, n=3)
    suspects = find_suspects([judge_of(run, folder / "data", tta="none")])
    draw_suspects(suspects, folder / "data", folder / "review", n=6, imagery=("painted", "none needed"))
    write_suspect_pages(folder / "data", folder / "review")
    return folder


@needs_chromium
def test_labels_are_judged_in_a_browser(place):
    "What is said of the outlines of a model becomes slumps; the rest stays; the file is that of any review."
    items = batch_items(place / "review", 1)
    with opened(place / "review" / "batch-01.html") as page:
        shown = begin(page)
        assert page.faults == []
        assert [item["id"] for item in shown] == items["item"].tolist()
        assert all(item["views"]["tight"]["image"] for item in shown)
        for item in shown:
            press(page, "r")
            assert item["ask"]
            press(page, "ArrowRight")  # the outline stands as it is
        saved = save(page, place)
    verdicts = read_verdicts(saved, place / "review")
    corrections = corrections_of(place / "review", verdicts)
    assert set(verdicts["verdict"]) == {"rts"}
    assert len(corrections) == (items["kind"] == "missing").sum() > 0
    root = corrected_version(place / "data", write_corrections(place / "review", verdicts), place / "corrected")
    assert dataset_info(root)["parent"]["name"] == "data"
    for row in corrections.itertuples():
        assert (read_label(root, row.tile)[0] == 1).sum() > (read_label(place / "data", row.tile)[0] == 1).sum()


def test_verdicts_of_other_labels_are_refused(place, tmp_path):
    "A file that was saved on the page of other suspects is an error, not a silent drop."
    verdict = dict(item="s000001", verdict="rts", time="2026-11-01T10:00:00Z", points=[], outline=None, note="")
    file = dict(format="rts_nb verdicts 1", map="0" * 12, sample="0" * 12, batch=1, reviewer="A", finished=True)
    file |= dict(saved="2026-11-01T10:00:00Z", verdicts=[verdict])
    (tmp_path / "verdicts-01-A.json").write_text(json.dumps(file), encoding="utf-8")
    with pytest.raises(DataError, match="map|sample"):
        read_verdicts(tmp_path, place / "review")
    assert len(read_items(place / "review")) == 6


def test_planted_errors_touch_nothing_that_was_named(tmp_path):
    "A run without a step empties a folder of its own and no other; what is named with it is refused."
    kept = tmp_path / "labels-seed-42" / "verdicts" / "verdicts-01-A.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}", encoding="utf-8")
    own = tmp_path / "labels-seed-42-planted"
    own.mkdir()
    (own / "old").touch()
    assert planted_places(tmp_path / "seed-42").review_dir == own
    assert kept.exists() and not own.exists()
    with pytest.raises(ConfigError, match="review_dir, root named and step is not"):
        check_nothing_named(runs="", review_dir="labels", verdicts="", root="data/next")
    check_nothing_named(runs="", review_dir="", verdicts="", root="")


def test_a_page_of_one_batch_is_told_of_that_batch(place):
    "Not of the first one: the second batch of six suspects, four a batch, has two."
    suspects = find_suspects([judge_of(sample_run(), place / "data", tta="none")])
    draw_suspects(suspects, place / "data", place / "two", n=6, batch_size=4)
    pages = write_suspect_pages(place / "data", place / "two", batch=2)
    assert pages_table(place / "two", pages)["items"].to_dict() == {2: 2}
