"""`python tests/making.py ROOT`: makes a dataset of 120 tiles, and says when everything is imported."""

import sys

from rts_nb.data import make_sample

if __name__ == "__main__":
    print("ready", flush=True)
    make_sample(sys.argv[1], tile_size=64, n_regions=6, n_positive=60, n_negative=60, n_scenes=1)
