"""What `make bench` writes: the record of a verdict, the page of what was recorded, and slopes."""

import json
import sys

import pytest
from programs import ROOT


@pytest.fixture
def bench(monkeypatch):
    "The modules `common` and `report` of bench/."
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import common
    import report

    yield common, report
    for name in ("common", "report"):
        sys.modules.pop(name, None)


MACHINE = dict(cpu="a processor", cores=2, flags=["avx2"], memory_gib=8.0, gpu=None, torch="2.0", threads=2)
GOOD = dict(row="a good row", ours=1.0, peer=2.0, unit="ms", ratio=0.5, low=0.4, high=0.6, rounds=5, limit=1.0)
GOOD |= dict(at_most=True, met=True)
SLOW = GOOD | dict(row="a slow row", ratio=1.5, met=False)
DARK = SLOW | dict(row="a dark row")
STEEP = dict(row="time of a thing", slope=2.0, unit="s", against="tiles", points=[[10, 0.1], [100, 10.0]], limit=1.1)
STEEP |= dict(at_most=True, met=False)
LEFT = dict(row="another library", left_out="it is not installed")


def part(*rows, **more):
    return dict(date="2024-07-01", commit="abc", machine=MACHINE, seconds=7, rows=list(rows)) | more


def test_verdict_is_recorded(bench, tmp_path, monkeypatch, capsys):
    common, report = bench
    monkeypatch.setenv(common.RECORD, str(tmp_path / "rows.jsonl"))
    measured = common.summarize([(0.2, 0.1), (0.3, 0.1), (0.4, 0.1)])
    common.print_verdict("ours / peer", measured, 2.5)
    common.print_verdict("peer / ours", measured, 2.5, at_most=False, unit="s")
    common.print_verdict("peaks", common.once(100, 50), None, unit="MiB")
    common.leave_out("a library", "it is not here")
    first, second, third, left = report.read_rows(tmp_path / "rows.jsonl")
    assert first["row"] == "ours / peer" and first["unit"] == "ms" and first["rounds"] == 3
    assert first["ours"] == pytest.approx(300) and first["peer"] == pytest.approx(100)
    assert first["ratio"] == pytest.approx(3) and first["high"] == pytest.approx(4) and first["met"] is False
    assert second["met"] is True and second["ours"] == pytest.approx(0.1) and second["peer"] == pytest.approx(0.3)
    assert third["ratio"] == 2 and third["rounds"] == 1 and third["met"] is None
    assert left["left_out"] == "it is not here"
    printed = capsys.readouterr().out
    assert "MISSED" in printed and "at least 2.5" in printed


def test_nothing_is_recorded_without_a_file(bench, monkeypatch):
    common, _ = bench
    monkeypatch.delenv(common.RECORD, raising=False)
    common.print_verdict("ours / peer", common.once(1, 2), 1.0)


def test_page_names_every_kind_of_row(bench):
    _, report = bench
    document = dict(data=part(GOOD, SLOW, DARK, LEFT), train=part(failed="ValueError: no model"), growth=part(STEEP))
    text = report.page(document, {"a slow row": "loading, 40 % of the profile"})
    unrun = len(report.RUNS) - 3
    assert f"**1 met, 3 missed, 1 failed, {unrun + 1} not run**" in text
    assert "| a good row | 1 ms | 2 ms | 0.50 (0.40 … 0.60, n=5) | ≤ 1.0 | met |" in text
    assert "- **a slow row**: 1.50, asked for ≤ 1.0. Cause: loading, 40 % of the profile" in text
    assert "- **a dark row**: 1.50, asked for ≤ 1.0. Cause: not profiled yet" in text
    assert "`ValueError: no model`" in text
    assert "| another library |  |  | it is not installed |  | not run |" in text
    assert "0.1 at 10, 10 at 100 tiles (s) | 2.00 | ≤ 1.1 | **missed** |" in text
    assert "Not run: `python bench/metrics.py`." in text
    assert "a processor, 2 cores (avx2), 8.0 GiB; no GPU; torch 2.0, 2 threads; 2024-07-01; commit abc; 7 s" in text


def test_a_second_run_replaces_its_own_part(bench, tmp_path):
    _, report = bench
    report.keep(tmp_path, "data", part(GOOD))
    report.keep(tmp_path, "train", part(SLOW))
    report.keep(tmp_path, "data", part(DARK))
    document = json.loads((tmp_path / "benchmarks.json").read_text(encoding="utf-8"))
    assert {name: [row["row"] for row in one["rows"]] for name, one in document.items()} == dict(
        data=["a dark row"], train=["a slow row"]
    )
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "a dark row" in text and "a slow row" in text and "a good row" not in text


def test_a_bench_that_fails_is_a_part(bench, monkeypatch):
    _, report = bench
    monkeypatch.setitem(report.RUNS, "data", report.Run("Nothing", ("no_such_bench.py",)))
    monkeypatch.setattr(report, "machine", lambda: MACHINE)
    assert "no_such_bench.py" in report.run_bench("data")["failed"]


def test_slope_of_known_points(bench):
    common, _ = bench
    assert common.log_slope([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert common.log_slope([1, 4, 16], [5, 10, 20]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="expected two sizes or more"):
        common.log_slope([10, 10], [1, 2])
