"""Do the intervals of thresholds hold what they promise? A thousand simulated validation sets a world (minutes)."""

from unittest import mock

from rts_nb.calibration.simulation import World, true_precision, try_thresholds


def test_intervals_hold_what_the_threshold_achieves():
    inside = try_thresholds(World(), 1000)["inside"].mean()
    assert 0.91 <= inside <= 0.98, f"the interval holds what is achieved in {inside:.1%} of the sets"


def test_unseen_events_keep_intervals_honest_where_look_alikes_are_rare():
    """One set in five has seen no look-alike at all, and those promise most.

    Resampling alone, which knows only what was seen, fails there.
    An unseen event makes the interval wide instead of wrong.
    """
    rare = World(lookalikes=0.01, ratio=80)
    with mock.patch("rts_nb.scores.resampling.event_size", lambda sizes, typical: 0.0):
        as_seen = try_thresholds(rare, 200)["inside"].mean()
    with_unseen = try_thresholds(rare, 200)["inside"].mean()
    assert as_seen < 0.85 and with_unseen >= 0.91, (
        f"inside: {as_seen:.1%} as seen, {with_unseen:.1%} with unseen events"
    )


def test_common_look_alikes_give_wider_intervals_than_needed():
    "With few negatives that stand for many, the intervals err on the wide side."
    inside = try_thresholds(World(rts=4.0, ratio=40), 200)["inside"].mean()
    assert inside >= 0.91, f"inside: {inside:.1%}"


def test_a_target_out_of_reach_is_never_claimed():
    "In a world where look-alikes score like slumps, each of a thousand sets must say that 0.8 is not reached."
    hopeless = World(rts=1.5, lookalikes=0.5, ratio=16)
    reached = try_thresholds(hopeless, 1000, intervals=False)["reached"]
    assert true_precision(hopeless).max() < 0.4
    assert not reached.any(), f"{reached.sum()} sets of 1000 claim a precision that the world does not have"
