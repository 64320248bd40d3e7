"""Does an operating point of objects keep what it promises? A thousand simulated validation sets a world (minutes).

Each set chooses a threshold and a smallest area and states a precision with an interval, from ten parts of its blocks.
The precision of that point in a world of 5,000 blocks, 125 times larger, has to lie inside in 91 to 98 of 100.
"""

import pandas as pd
import pytest

from rts_nb.calibration.object_simulation import ObjectWorld, try_choices

N = 1000
WORLDS = {  # a negative tile weighs 1 or 25
    "many slumps, weight 1": ObjectWorld(),
    "few slumps, weight 1": ObjectWorld(slumps=0.5),
    "many slumps, weight 25": ObjectWorld(ratio=100, slumps=30, lookalikes=-2),
    "rare look-alikes, weight 25": ObjectWorld(ratio=100, slumps=8, false=0.05, lookalikes=-2),
    "few slumps, weight 25": ObjectWorld(ratio=100, slumps=4, false=0.2, lookalikes=-2),
}


def with_evidence(tried: pd.DataFrame) -> pd.Series:
    "The sets with at least 100 detections, and 10 false ones on negative tiles."
    return (tried["detections"] >= 100) & (tried["far"] >= 10)


@pytest.fixture(scope="module")
def tried():
    by_world = {name: try_choices(world, N) for name, world in WORLDS.items()}
    return {name: sets[sets["state"] == "reached"] for name, sets in by_world.items()}


def test_the_world_lies_inside_where_there_is_much_evidence(tried):
    sets = pd.concat(tried.values())
    much = sets[with_evidence(sets)]
    inside = much["inside"].mean()
    assert len(much) >= N and 0.91 <= inside <= 0.98, f"inside in {inside:.1%} of {len(much)} sets"


@pytest.mark.parametrize("name", list(WORLDS))
def test_the_world_lies_inside_in_every_world(tried, name):
    inside = tried[name]["inside"].mean()
    assert len(tried[name]) > 0.9 * N and inside >= 0.91, f"{name}: inside in {inside:.1%} of {len(tried[name])} sets"


def test_in_sample_precision_flatters(tried):
    "Why the choice is scored on blocks that did not make it."
    sets = tried["few slumps, weight 25"]
    assert sets["in_sample"].mean() > sets["real"].mean() + 0.05
    assert abs(sets["stated"].mean() - sets["real"].mean()) < 0.05


def test_ten_blocks():
    tried = try_choices(ObjectWorld(slumps=8, false=0.8), N, n_blocks=10)
    inside = tried[tried["state"] == "reached"]["inside"].mean()
    assert inside >= 0.91, f"inside in {inside:.1%}"


def test_twenty_slumps_are_undecided():
    tried = try_choices(ObjectWorld(slumps=1.5), 200, n_blocks=8, resamples=50)
    assert (tried["state"] == "undecided").all()
