"""0/1 losses that several processes hold: each compresses its own part, and they solve the small game together."""

import numpy as np
import pytest

from mixsolve import fit_mixture
from tests.certificates import assert_certificate
from tests.group_parts import cuts, zero_one_game
from tests.groups import Groups, Together, shared
from tests.tolerances import rounding_slack

pytest.importorskip("torch")

COMPRESSED = [
    *[(2, "even", form, temperature) for form in ("memory", "files") for temperature in (0.0, 0.05)],
    *[(4, kind, "memory", temperature) for kind in ("uneven", "one empty") for temperature in (0.0, 0.05)],
]
"""Games of 0/1 losses; of "uneven" ones the last part is a single sample, which is no smaller when compressed."""
LEFT_ALONE = [
    *[(2, "even", form, 0.0) for form in ("another loss", "little memory")],
    (4, "one empty", "another loss in chunks", 0.0),
]
JOBS = {
    2: [
        *[("zero_one_losses", *job) for size, *job in COMPRESSED + LEFT_ALONE if size == 2],
        ("compression_abandoned", "time limit"),
        ("compression_abandoned", "interrupt"),
    ],
    4: [("zero_one_losses", *job) for size, *job in COMPRESSED + LEFT_ALONE if size == 4],
}


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return Groups(JOBS, tmp_path_factory)


@pytest.mark.parametrize(("size", "kind", "form", "temperature"), COMPRESSED)
def test_zero_one_losses_are_compressed_where_they_are(size, kind, form, temperature, groups):
    losses, weight = zero_one_game()
    _, answers = groups(size, "zero_one_losses", kind, form, temperature)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert answers[0]["status"] == "OPTIMAL"
    # a response may be a better mixture than the solution by an ulp, and its worst case takes another read
    assert answers[0]["passes"] in ((2, 3) if temperature else (2,))
    assert answers[0]["bytes_read"] == answers[0]["passes"] * losses.size * (1 if form == "files" else 8)
    assert sum(answer["compressed_rows"] for answer in answers) < losses[0].size / 2
    level = np.where(np.arange(losses.shape[1]) % 3, 1.0, 2.0) * temperature if temperature else 0.0
    ends = cuts(kind, size, losses.shape[1])
    found = Together(answers, level, ends)
    assert_certificate(found, losses, sample_weight=weight, tol=1e-9)
    alone = fit_mixture(losses, sample_weight=weight, temperature=level, tol=1e-9)
    assert found.lower_bound <= alone.value + rounding_slack(losses)
    assert alone.lower_bound <= found.value + rounding_slack(losses)


@pytest.mark.parametrize(("size", "kind", "form", "temperature"), LEFT_ALONE)
def test_zero_one_losses_are_left_alone_by_all_processes_or_by_none(size, kind, form, temperature, groups):
    losses, weight = zero_one_game()
    if form == "another loss":
        losses[3, -1, -1] = 0.5
    if form == "another loss in chunks":
        losses[3, -150, -1] = 0.5
    _, answers = groups(size, "zero_one_losses", kind, form, temperature)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert [answer["compressed_rows"] for answer in answers] == [None] * size
    assert_certificate(
        Together(answers, temperature, cuts(kind, size, 500)), losses, sample_weight=weight, tol=1e-9
    )


@pytest.mark.parametrize(("how", "status"), [("time limit", "TIME_LIMIT"), ("interrupt", "INTERRUPTED")])
def test_the_read_that_compresses_is_abandoned_by_all_processes_together(how, status, groups):
    """8 s of it, the second read, were left; the third one proves something."""
    losses, _ = zero_one_game()
    _, answers = groups(2, "compression_abandoned", how)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert [(answer["status"], answer["reads"]) for answer in answers] == [(status, 3)] * 2
    assert all(answer["seconds"] < 5 for answer in answers)
    assert_certificate(Together(answers, 0.0, cuts("even", 2, 500)), losses)
