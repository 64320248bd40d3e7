"""The gate over ten thousand ledgers: what is none is taken in at most 5 %, what can be found is found in 80 %."""

import pytest
from scipy import stats

from rts_nb.experiments.gate import LEVEL
from rts_nb.experiments.gate_simulation import SIGMAS, false_gains, power_table, share_found

LEDGERS = 10_000


def test_ledgers_without_a_difference_take_nothing():
    table = false_gains(LEDGERS, seed=7)
    assert len(table) == 9
    by_chance = stats.binom.isf(1e-3 / len(table), LEDGERS, LEVEL) / LEDGERS
    assert (table["gate"] <= by_chance).all(), table
    assert table["gate"].max() > LEVEL / 2, "a gate that takes nothing would pass too"


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_detectable_gain_is_found_in_four_of_five_ledgers(seeds):
    table = power_table()
    for sigma in SIGMAS:
        share = share_found(table.loc[seeds, f"σ {sigma:g}"], sigma, 0.01, seeds, LEDGERS)
        assert 0.74 < share < 0.83, (sigma, share)
