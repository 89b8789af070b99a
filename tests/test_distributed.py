"""Several processes on one game: real processes, gloo, and every way in which one of them can fail."""

import subprocess
import sys

import numpy as np
import pytest

from mixsolve import LossTable, fit_mixture, load_result
from mixsolve.chunks import SMALLEST, SUBSAMPLES
from mixsolve.distributed import FRAME
from mixsolve.solvers.source import TableSource
from mixsolve.strategy import strategy_from_dict
from tests.certificates import assert_certificate
from tests.group_jobs import SOLVERS
from tests.group_parts import cuts, whole_game
from tests.groups import ROOT, Groups, Together, run_group, shared

pytest.importorskip("torch")

KINDS = [(2, "even"), (4, "uneven"), (4, "one empty")]
SPOILT = ["classifiers", "dtype", "tol", "temperature", "nan", "bad argument", "callback"]
"""What makes one process fail, or disagree, without leaving the group."""

JOBS = {
    2: [
        *[("solve", "even", solver) for solver in SOLVERS],
        ("one_pass", "even"),
        ("large_core",),
        ("stalled_master", "even", 1 << 26),
        ("stalled_master", "even", 0),
        ("ragged_with_priors", 0.0),
        ("ragged_with_priors", 0.3),
        ("streamed",),
        ("continued",),
        ("stopped_by_one",),
        ("abandoned", "time limit"),
        ("abandoned", "interrupt"),
        ("drawing_abandoned", "time limit"),
        ("drawing_abandoned", "interrupt"),
        *[("fail_somehow", how) for how in SPOILT],
        ("solve", "even", "RowGeneration"),
    ],
    4: [
        *[("solve", kind, solver) for kind in ("uneven", "one empty") for solver in SOLVERS],
        ("stalled_master", "one empty", 1 << 26),
        ("one_pass", "uneven"),
        ("one_pass", "one empty"),
        ("mixed_forms",),
    ],
}


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return Groups(JOBS, tmp_path_factory)


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize(("size", "kind"), KINDS)
def test_all_processes_find_the_same_certified_optimum(size, kind, solver, groups):
    losses, weight = whole_game()
    temperature = SOLVERS[solver][1]
    _, answers = groups(size, "solve", kind, solver)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    found = Together(answers, temperature, cuts(kind, size, losses.shape[1]))
    assert answers[0]["status"] == "OPTIMAL"
    assert_certificate(found, losses, sample_weight=weight, tol=1e-8)
    alone = fit_mixture(losses, sample_weight=weight, temperature=temperature, tol=1e-8)
    assert found.lower_bound <= alone.value
    assert alone.lower_bound <= found.value


def test_the_same_again_gives_the_same_bits_and_failures_leave_nothing_behind(groups):
    _, answers = groups(2, "solve", "even", "RowGeneration")
    _, again = groups(2, "solve", "even", "RowGeneration", last=True)
    for first, second in zip(answers, again, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.parametrize(("size", "kind"), KINDS)
def test_one_pass_is_that_of_one_process(size, kind, groups):
    losses, weight = whole_game()
    weights = np.random.default_rng(1).dirichlet(np.ones(losses.shape[0]), size=3)
    known, _ = TableSource(LossTable(losses, sample_weight=weight), None).answer(
        weights, np.array([0.0, 0.05, 1.0]), float64_scores=True, hessians=3
    )
    _, answers = groups(size, "one_pass", kind)
    for answer in answers:
        assert shared(answer) == shared(answers[0])
        np.testing.assert_allclose(answer["value"], known.value, rtol=1e-12)
        np.testing.assert_allclose(answer["gradient"], known.gradient, rtol=1e-12)
        np.testing.assert_allclose(answer["hessian"], known.hessian, rtol=1e-10, atol=1e-13)
        assert answer["bytes_read"] == losses.nbytes
        # one frame to agree on float64, and one message of K (1 + L + L L) numbers and the bytes read
        numbers = 2 * FRAME + max(0, 3 * (1 + 5 + 25) + 1 - (FRAME - 2))
        assert answer["communicated"] == 8 * numbers * (size - 1)


def test_a_large_core_stays_sharded(groups):
    folder, answers = groups(2, "large_core")
    losses = np.concatenate([np.load(folder / f"large-{rank}.npy") for rank in range(2)], axis=1)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert_certificate(Together(answers, 0.0, [0, 6000, 12000]), losses, tol=1e-9)
    assert answers[0]["communicated"]["master"] < losses.nbytes / 10
    mixed = [strategy_from_dict(answer["attack"]) for answer in answers]
    assert all(attack.sample.size <= 6000 + 4 for attack in mixed)


@pytest.mark.parametrize(("size", "kind"), [(2, "even"), (4, "one empty")])
def test_a_master_that_stalls_is_solved_by_highs_on_one_process(size, kind, groups):
    losses, weight = whole_game()
    _, answers = groups(size, "stalled_master", kind, 1 << 26)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert answers[0]["status"] == "OPTIMAL"
    assert answers[0]["passes"] <= 12
    found = Together(answers, 0.0, cuts(kind, size, losses.shape[1]))
    assert_certificate(found, losses, sample_weight=weight, tol=1e-6)


def test_a_master_that_stalls_and_is_too_large_to_gather_still_ends_with_a_certificate(groups):
    """The level bundle method goes on from there: more passes, the same promise."""
    losses, weight = whole_game()
    _, answers = groups(2, "stalled_master", "even", 0)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    found = Together(answers, 0.0, cuts("even", 2, losses.shape[1]))
    assert_certificate(found, losses, sample_weight=weight)
    assert found.gap <= 1e-4 * found.value


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_ragged_parts_with_priors_and_temperatures(temperature, groups):
    folder, answers = groups(2, "ragged_with_priors", temperature)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    game = np.load(folder / f"game-{temperature}.npz")
    own = {"row_offsets": game["offsets"], "attack_prior": game["prior"]}
    level = game["level"] if temperature else 0.0
    alone = fit_mixture(game["losses"], **own, temperature=level)
    assert abs(answers[0]["value"] - alone.value) <= 2e-6 * alone.value
    if not temperature:
        assert_certificate(Together(answers, 0.0, [0, 150, 300]), game["losses"], **own, tol=1e-6)


def test_parts_in_files(groups):
    losses, _ = whole_game()
    _, answers = groups(2, "streamed")
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert_certificate(Together(answers, 0.0, cuts("even", 2, 1300)), losses, tol=1e-6)
    assert answers[0]["bytes_read"] == answers[0]["passes"] * losses.nbytes


def test_parts_of_different_forms(groups):
    """Only the chunks are read beforehand, and only the file to draw subsamples; of the array these are read alone."""
    losses, weight = whole_game()
    _, answers = groups(4, "mixed_forms")
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    ends = cuts("one empty", 4, 1300)
    assert_certificate(Together(answers, 0.0, ends), losses, sample_weight=weight, tol=1e-8)
    array, file, chunks = np.diff(ends)[1:]
    drawn = SUBSAMPLES * (SMALLEST * array // losses.shape[1])
    read = answers[0]["bytes_read"] - (answers[0]["passes"] - 2) * losses.nbytes
    assert read == (chunks + file + drawn) * losses[:, 0].nbytes


def test_a_killed_group_goes_on_from_files_that_differ_by_a_pass(groups):
    losses, _ = whole_game()
    _, answers = groups(2, "continued")
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert_certificate(Together(answers, 0.0, cuts("even", 2, 1300)), losses, tol=1e-9)


def test_a_callback_of_one_process_stops_all(groups):
    _, answers = groups(2, "stopped_by_one")
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert answers[0]["status"] == "STOPPED_BY_CALLBACK"


@pytest.mark.parametrize(("how", "status"), [("time limit", "TIME_LIMIT"), ("interrupt", "INTERRUPTED")])
def test_a_pass_is_abandoned_by_all_processes_together(how, status, groups):
    """8 s of the third read were left."""
    losses, _ = whole_game()
    _, answers = groups(2, "abandoned", how)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    for answer in answers:
        assert answer["status"] == status
        assert answer["reads"] == 3
        assert answer["seconds"] < 5
        assert 0 < answer["gap"] < 0.2
    assert_certificate(Together(answers, 0.0, cuts("even", 2, 1300)), losses)


@pytest.mark.parametrize(("how", "status"), [("time limit", "TIME_LIMIT"), ("interrupt", "INTERRUPTED")])
def test_the_read_that_draws_subsamples_is_abandoned_by_all_processes_together(how, status, groups):
    """A dozen seconds of it were left, and nothing was proved."""
    losses, _ = whole_game()
    _, answers = groups(2, "drawing_abandoned", how)
    assert all(shared(answer) == shared(answers[0]) for answer in answers)
    assert [(answer["status"], answer["passes"]) for answer in answers] == [(status, 1)] * 2
    assert all(answer["seconds"] < 5 for answer in answers)
    assert_certificate(Together(answers, 0.0, cuts("even", 2, 1300)), losses)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("classifiers", "`n_classifiers` must be the same on all processes"),
        ("dtype", "`dtype` must be the same"),
        ("tol", "`tol` must be the same"),
        ("temperature", "`temperature` must be the same"),
    ],
)
def test_processes_that_disagree_are_named(how, message, groups):
    _, answers = groups(2, "fail_somehow", how)
    for answer in answers:
        assert answer["error"] == "DisagreementError"
        assert message in answer["message"]
        assert "rank 0 has" in answer["message"]
        assert "rank 1 has" in answer["message"]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("nan", "ValueError", "nan at classifier 2, sample 5, attack 3"),
        ("bad argument", "ValueError", "`threads` must be an integer >= 1"),
        ("callback", "ZeroDivisionError", "division by zero"),
    ],
)
def test_the_error_of_one_process_reaches_all(how, error, message, groups):
    _, answers = groups(2, "fail_somehow", how)
    assert answers[1]["error"] == error
    assert message in answers[1]["message"]
    assert answers[0]["error"] == "GroupError"
    assert f"rank 1: {error}" in answers[0]["message"]
    assert message in answers[0]["message"]


@pytest.mark.parametrize("size", [2, 4])
def test_a_process_that_dies_ends_the_others(size, tmp_path):
    answers = run_group(tmp_path, size, [("fail_somehow", "dies")])
    assert answers[-1] is None
    for [answer] in answers[:-1]:
        assert answer["error"] == "GroupError"
        assert "died or timed out" in answer["message"]
        assert answer["seconds"] < 30


def test_a_process_that_hangs_ends_the_others_by_the_timeout(tmp_path):
    """The group's timeout is 6 s; the process sleeps for 12."""
    answers = run_group(tmp_path, 2, [("fail_somehow", "hangs")])
    for [answer] in answers:
        assert answer["error"] == "GroupError"
        assert "died or timed out" in answer["message"]
    assert 5 < answers[0][0]["seconds"] < 11


def test_torchrun_fits_files_and_a_folder(tmp_path):
    losses, _ = whole_game()
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, (first, last) in enumerate([(0, 200), (200, 900), (900, 1300)]):
        np.save(folder / f"{number}.npy", losses[:, first:last])
    np.save(tmp_path / "losses.npy", losses)
    for given in (folder, tmp_path / "losses.npy"):
        out = tmp_path / "result.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        fitted = subprocess.run(
            [*command, "-m", "mixsolve", "fit", str(given), "--out", str(out)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert fitted.returncode == 0, fitted.stderr
        assert fitted.stdout.count("OPTIMAL") == 1
        assert_certificate(load_result(out), losses, tol=1e-6)
