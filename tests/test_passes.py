"""Every answer of the pass against the specification: storages, layouts, instruction sets, shapes and sizes."""

import numpy as np
import pytest
import torch

from mixsolve import LossTable, smoothed_value_and_grad, worst_case
from mixsolve.passes import run_pass
from tests.pass_cases import LAYOUTS, STORAGES, Case, case, draw_case, draw_prior, draw_temperatures
from tests.pass_checks import FLOAT64_ACCURACY, assert_within, check

# What a block or a vector holds, and its neighbours: tails, whole blocks, samples that are longer than a block.
LENGTHS = [
    *range(1, 36),
    63,
    64,
    65,
    255,
    256,
    257,
    511,
    512,
    513,
    1000,
    1023,
    1024,
    1025,
    2047,
    2049,
    4096,
    4100,
    9001,
]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_answer_agrees_with_the_specification(layout, storage, isa):
    for seed in range(3):
        drawn = draw_case(np.random.default_rng([seed, len(layout)]), storage, layout)
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.parametrize("storage", STORAGES)
def test_every_answer_on_ragged_tables_agrees_with_the_specification(storage, isa):
    for seed in range(10):
        drawn = draw_case(np.random.default_rng(seed), storage)
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.large
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("layout", [*LAYOUTS, None])
def test_many_more_cases_agree_with_the_specification(layout, storage, isa):
    for seed in range(100, 250):
        drawn = draw_case(np.random.default_rng(seed), storage, layout)
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.parametrize("storage", STORAGES)
def test_samples_of_every_length_agree_with_the_specification(storage, isa):
    """All lengths in one ragged table, and each alone."""
    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(rng.permutation(LENGTHS))])
    losses = rng.random((3, offsets[-1])).astype(STORAGES[storage])
    weights = rng.dirichlet(np.ones(3), 2)
    check(
        case(
            losses,
            weights,
            [0.0, 0.05],
            row_offsets=offsets,
            attack_prior=draw_prior(rng, offsets[-1], offsets),
        )
    )
    for n_attacks in LENGTHS:
        losses = rng.random((3, 3, n_attacks)).astype(STORAGES[storage])
        check(case(losses, weights, [0.05, 0.0]))
        check(case(losses[:, :1], weights, [[2.0], [0.05]], attack_prior=draw_prior(rng, (1, n_attacks))))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("n_classifiers", [1, 2, 7, 12, 13, 33, 64, 257, 1024])
def test_tables_of_1_to_1024_classifiers_agree_with_the_specification(n_classifiers, storage, isa):
    rng = np.random.default_rng(n_classifiers)
    for n_attacks in (3, 40, 700):
        losses = rng.random((n_classifiers, 2, n_attacks)).astype(STORAGES[storage])
        drawn = case(losses, rng.dirichlet(np.ones(n_classifiers), 3), [0.0, 0.01, 1e3])
        check(drawn)
        check(drawn, float64_scores=True)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("prior", [False, True])
def test_one_huge_sample_agrees_with_the_specification(storage, prior, isa):
    rng = np.random.default_rng(2)
    losses = rng.random((2, 1, 300_001)).astype(STORAGES[storage])
    prior = draw_prior(rng, losses.shape[1:]) if prior else None
    check(case(losses, [[0.4, 0.6], [0.9, 0.1]], [0.0, 0.02], attack_prior=prior))


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 1.0])
def test_a_million_attacks_of_a_thousand_classifiers(temperature):
    """Equal classifiers, which take one plane of memory, are one classifier with the sum of their weights."""
    rng = np.random.default_rng(3)
    losses, weights = rng.random((1, 1, 1_000_000), dtype=np.float32), rng.dirichlet(np.ones(1000))
    many = case(np.broadcast_to(losses, (1000, 1, 1_000_000)), weights, [temperature])
    found = run_pass(many.table(), many.weights, many.temperature)
    one = check(case(losses, [weights.sum()], [temperature]))
    # A thousand float32 weights, each rounded by half an ulp, and a softmax that feels it.
    slack = 1e-6 * (1 + (1 / temperature if temperature else 0))
    assert_within(found.value - one.value, 1e-6)
    assert_within(found.gradient - one.gradient, slack)


def test_huge_and_tiny_samples_side_by_side(isa):
    rng = np.random.default_rng(4)
    sizes = np.array([1, 30_000, 2, 1, 5000, 700, 1, 1, 1, 20_000, 3])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    losses = rng.random((5, offsets[-1]), dtype=np.float32)
    temperature = draw_temperatures(rng, 4, sizes.size, 1.0)
    drawn = case(losses, rng.dirichlet(np.ones(5), 4), temperature, row_offsets=offsets)
    check(drawn)
    check(Case(losses, drawn.weights, temperature, drawn.keywords, samples=np.array([1, 2, 5, 9])))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_subset_of_windows_finds_its_priors(storage, isa):
    """Every second window begins where the last one ended, but its prior does not."""
    rng = np.random.default_rng(5)
    losses = LAYOUTS["windows"](lambda *shape: rng.random(shape).astype(STORAGES[storage]), 3, 20, 8)
    prior = draw_prior(rng, (20, 8))
    check(case(losses, rng.dirichlet(np.ones(3)), [0.1], samples=np.arange(0, 20, 2), attack_prior=prior))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_torch_tensors_are_answered_like_arrays(kind, isa):
    losses = torch.rand(4, 6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(kind)
    weights = np.random.default_rng(0).dirichlet(np.ones(4))
    for tensor in (losses, losses.transpose(0, 1).contiguous().transpose(0, 1), losses[:, ::2, 3:40]):
        exact = tensor.to(torch.float64).numpy()
        for temperature in (0.0, 0.1):
            found = run_pass(LossTable(tensor), [weights], temperature, float64_scores=True)
            expected = run_pass(LossTable(exact), [weights], temperature)
            assert_within(found.value - expected.value, FLOAT64_ACCURACY)
            assert_within(found.gradient - expected.gradient, 20 * FLOAT64_ACCURACY)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_disjoint_subsets_add_up_to_the_whole(temperature, isa):
    rng = np.random.default_rng(6)
    table = LossTable(rng.random((3, 90, 7)), sample_weight=rng.random(90))
    weights = rng.dirichlet(np.ones(3), 2)
    whole = run_pass(table, weights, temperature)
    parts = [run_pass(table, weights, temperature, samples=np.arange(start, 90, 4)) for start in range(4)]
    assert_within(sum(part.value for part in parts) - whole.value, FLOAT64_ACCURACY)
    assert_within(sum(part.gradient for part in parts) - whole.gradient, FLOAT64_ACCURACY)
    assert sum(part.bytes_read for part in parts) == whole.bytes_read == table.nbytes


@pytest.mark.parametrize(
    ("samples", "message"),
    [([3, 1], "rise"), ([1, 1], "rise"), ([0, 4], "out of range"), ([-1], "out of range")],
)
def test_samples_that_do_not_rise_within_the_table_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        run_pass(LossTable(np.ones((2, 4, 3))), [[0.5, 0.5]], 0.0, samples=samples)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 3)])
def test_the_public_functions_give_every_result_the_axis_of_the_queries(shape):
    losses = np.random.default_rng(7).random((3, 6, 5))
    weights = np.random.default_rng(8).dirichlet(np.ones(3), shape[:-1])
    value, grad = smoothed_value_and_grad(losses, weights, np.linspace(0.1, 1, 6))
    worst = worst_case(losses, weights)
    assert np.shape(value) == np.shape(worst.value) == shape[:-1]
    assert grad.shape == worst.grad.shape == shape
    assert worst.per_sample.shape == worst.best_attack.shape == (*shape[:-1], 6)
    truth = run_pass(LossTable(losses), np.atleast_2d(weights), 0.0, per_sample=True)
    np.testing.assert_array_equal(np.atleast_2d(worst.per_sample), truth.per_sample)
