"""Row generation on tables of gigabytes and on a thousand classifiers; both bounds recomputed block by block."""

import numpy as np
import pytest

from benchmarks import cases
from benchmarks.bench_row_generation import certify
from mixsolve import Status, fit_mixture

pytestmark = pytest.mark.large

TOL = 1e-6
MEMORY_PER_SAMPLE = 256
MEMORY_OF_TABLE = 0.2
"""Promised beside the table: bytes a sample, and a part of the table in float32."""


def solved(losses):
    result = fit_mixture(losses, tol=TOL)
    assert result.status is Status.OPTIMAL
    certify(result, losses, TOL)
    return result


@pytest.mark.parametrize(
    "instance",
    [cases.ONE_GIGABYTE, cases.FOUR_GIGABYTES, cases.MANY_CLASSIFIERS],
    ids=lambda instance: instance.name,
)
def test_tables_of_gigabytes(instance):
    losses = instance.losses()
    result = solved(losses)
    n_samples = instance.shape[1]
    assert result.passes <= 12
    if n_samples >= 10_000:
        assert result.bytes_read <= (result.passes + 0.5) * losses.nbytes
    if instance.shape[2] >= 100:
        allowed = MEMORY_PER_SAMPLE * n_samples + MEMORY_OF_TABLE * 4 * losses.size
        assert result.statistics.peak_memory <= allowed


@pytest.mark.parametrize("storage", [np.float32, np.bool_])
def test_twenty_million_rows_of_zeros_and_ones(storage):
    losses = cases.MANY_SAMPLES_PAPER_GAME.losses().astype(storage)
    result = solved(losses)
    assert result.passes <= 3
    assert result.statistics.compressed_rows < result.statistics.rows / 1000
