"""Do the intervals of a review hold what they promise? A thousand samples of each simulated world (minutes)."""

from rts_nb.reviewing.simulation import (
    CLASS_STRATA,
    FEW_MISSED,
    OTHER_STRATA,
    RARE,
    SMALL_STRATA,
    ItemWorld,
    try_items,
    try_points,
)


def test_points_in_strata_that_are_map_classes():
    table = try_points(CLASS_STRATA, 1000)
    assert table["hold"].between(0.925, 0.98).all(), table.to_string()
    assert table["hold"].mean() > 0.94


def test_points_in_strata_that_are_not_map_classes():
    table = try_points(OTHER_STRATA, 1000)
    assert table["hold"].between(0.925, 0.98).all(), table.to_string()


def test_points_where_the_largest_stratum_shows_no_slump():
    "One point of it would stand for more ground than all slumps of the other strata: intervals are wide, never wrong."
    table = try_points(RARE, 1000)
    assert (table["all"] >= 0.93).all(), table.to_string()


def test_blocks_and_ratios():
    "About a hundred slumps among near misses and blocks are seen, outlines of half of them."
    table = try_items(ItemWorld(), 1000)
    assert (table["hold"] >= 0.93).all(), table.to_string()


def test_many_strata_of_five_items():
    table = try_items(SMALL_STRATA, 1000)
    assert (table["hold"] >= 0.91).all(), table.to_string()


def test_one_or_two_missed_slumps_say_at_least():
    "With fewer than three hits there is one limit, and it holds in at least nine samples of ten."
    found = try_items(FEW_MISSED, 1000).loc["producer's accuracy"]
    assert found["one limit"] > 500 and found["holds"] >= 0.9, found.to_string()
