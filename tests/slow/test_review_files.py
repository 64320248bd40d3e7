"""Does a review hold what it promises from its files on: a thousand samples drawn, judged, saved, read, estimated."""

import tempfile

import numpy as np
import pandas as pd

from rts_nb.reviewing.items import read_items
from rts_nb.reviewing.simulation import ItemWorld, true_figures
from rts_nb.reviewing.simulation_files import SimulatedReviewer, save_verdicts, simulate_review
from rts_nb.reviewing.worth import worth_of_review, write_worth

N = 1000
WORLD = ItemWorld(detections=400, judged=12, near=80, near_judged=20, blocks=1200, blocks_judged=60)


def chain(seed: int) -> dict[str, dict[str, bool]]:
    "By figure whether its interval holds the truth, and whether it is a bound."
    with tempfile.TemporaryDirectory() as folder:
        review = simulate_review(folder, WORLD, seed)
        for batch, name in ((1, "Ada"), (2, "Bo")):
            save_verdicts(review, batch, SimulatedReviewer(name))
        figures, truth = worth_of_review(review.review_dir, review.inbox).figures, true_figures(review.population)
    found = {"user's accuracy": figures.users, "producer's accuracy": figures.producers}
    found |= {"number of slumps": figures.slumps, "area": figures.area.total, "area by difference": figures.difference}
    return {
        name: dict(holds=bool(e.low <= truth[name] <= e.high), bound=bool(e.is_one_sided), none=bool(np.isnan(e.low)))
        for name, e in found.items()
    }


def test_a_thousand_reviews_hold_their_truth_from_their_files_on():
    rows = [dict(figure=name) | found for seed in range(N) for name, found in chain(seed).items()]
    table = pd.DataFrame(rows)
    known = table[~table["none"]]
    held = known.groupby("figure")["holds"].mean()
    print(known.groupby("figure")[["holds", "bound"]].mean().assign(n=known.groupby("figure").size()).to_string())
    assert held["user's accuracy"] >= 0.93, held.to_string()
    assert (held >= 0.90).all(), held.to_string()  # of blocks and ratios of few outlines


def test_a_census_of_many_batches(tmp_path):
    "Every one of ten thousand detections is judged in a hundred batches; precision is known to the last item."
    world = WORLD._replace(detections=10_000)
    review = simulate_review(tmp_path, world, seed=1, n_batches=100, census=True)
    for batch in range(1, 101):
        save_verdicts(review, batch, SimulatedReviewer("Ada" if batch % 2 else "Bo"))
    worth = worth_of_review(review.review_dir, review.inbox)
    known = true_figures(review.population)["user's accuracy"]
    assert worth.counts().loc["detection", ["judged", "population"]].tolist() == [10_000, 10_000]
    np.testing.assert_allclose(worth.figures.users[:3], (known,) * 3)
    assert write_worth(review.review_dir, worth).stat().st_size < 1e6
    assert len(read_items(review.review_dir)) > 10_000
