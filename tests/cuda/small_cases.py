"""Cases of the backend tests that an emulator gets through quickly."""

from itertools import count

import numpy as np

from tests.pass_cases import draw_case

# How small tables are cut as large ones are: tiles of a few rows, several chunks, samples in several pieces.
SMALL = {"tile_bytes": 1024, "chunk_bytes": 2048, "piece_bytes": 2048}


def small_cases(storage, layout, number, most_numbers=12_000):
    """The first cases of at most so many losses times queries."""
    found = []
    for seed in count():
        drawn = draw_case(np.random.default_rng([seed, 77]), storage, layout, most_rows=2000)
        if drawn.losses.size * len(drawn.weights) <= most_numbers:
            found.append(drawn)
        if len(found) == number:
            return found
