"""The worst case as a torch operation: derivatives, storage types, autocast, compilation."""

import numpy as np
import pytest
import torch

from mixsolve import smoothed_value_and_grad
from mixsolve import worst_case as worst_case_of_table
from mixsolve.torch_ops import smoothed_worst_case, worst_case
from tests.pass_cases import draw_prior


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def plain(losses, weights, temperature, prior=None):
    """The same in torch's own operations, for uniform sample weights."""
    scores = torch.einsum("k,kij->ij", weights, losses) / temperature
    prior = torch.full_like(scores, 1 / scores.shape[1]) if prior is None else prior
    return (temperature * torch.logsumexp(scores + prior.log(), dim=1)).mean()


BELONGINGS = {
    "nothing": {},
    "sample weights": {"sample_weight": torch.tensor([1.0, 0.0, 3.0, 0.5])},
    "a prior": {"attack_prior": torch.from_numpy(draw_prior(np.random.default_rng(1), (4, 5)))},
    "temperatures": {"temperature": torch.tensor([0.1, 0.2, 1.0, 10.0], dtype=torch.float64)},
}


@pytest.mark.parametrize("given", BELONGINGS.values(), ids=BELONGINGS)
def test_first_derivatives_are_those_of_finite_differences(given):
    given = {"temperature": 0.3, **given}
    inputs = draw(3, 4, 5), draw(3, seed=1)
    assert torch.autograd.gradcheck(
        lambda losses, weights: smoothed_worst_case(losses, weights, **given), inputs
    )


def test_first_derivatives_of_ragged_tables():
    offsets = torch.tensor([0, 2, 3, 9])
    losses, weights = draw(3, 9), draw(3, seed=1)
    assert torch.autograd.gradcheck(
        lambda losses, weights: smoothed_worst_case(losses, weights, 0.3, row_offsets=offsets),
        (losses, weights),
    )
    assert torch.autograd.gradcheck(
        lambda losses, weights: worst_case(losses, weights, offsets, torch.ones(3)), (losses, weights)
    )


def test_values_are_those_of_the_pass_and_derivatives_those_of_torch():
    losses, weights = draw(4, 6, 7), draw(4, seed=2)
    prior = torch.from_numpy(draw_prior(np.random.default_rng(0), (6, 7)))
    value = smoothed_worst_case(losses, weights, 0.1, attack_prior=prior)
    expected, _ = smoothed_value_and_grad(losses, weights, 0.1, attack_prior=prior)
    assert value.item() == expected
    mine = torch.autograd.grad(3 * value, (losses, weights))
    theirs = torch.autograd.grad(3 * plain(losses, weights, 0.1, prior), (losses, weights))
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-15)


def test_the_worst_case_follows_the_best_attacks():
    losses, weights = draw(3, 5, 6), draw(3, seed=4)
    value = worst_case(losses, weights, sample_weight=torch.arange(1.0, 6.0))
    answer = worst_case_of_table(losses, weights.detach(), sample_weight=np.arange(1.0, 6.0))
    assert value.item() == answer.value
    by_losses, by_weights = torch.autograd.grad(value, (losses, weights))
    np.testing.assert_array_equal(by_weights, answer.grad)
    expected = torch.zeros(3, 5, 6, dtype=torch.float64)
    shares = torch.arange(1.0, 6.0, dtype=torch.float64) / 15
    expected[:, torch.arange(5), torch.from_numpy(answer.best_attack)] = weights.detach()[:, None] * shares
    torch.testing.assert_close(by_losses, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_losses_have_gradients_of_their_type(dtype):
    losses, weights = draw(3, 8, 10, dtype=dtype), draw(3, seed=1, dtype=torch.float32)
    value = smoothed_worst_case(losses, weights, 0.2)
    assert value.dtype is torch.float32
    by_losses, by_weights = torch.autograd.grad(value, (losses, weights))
    assert (by_losses.dtype, by_weights.dtype) == (dtype, torch.float32)
    wide = losses.detach().double().requires_grad_(), weights.detach().double().requires_grad_()
    exact = torch.autograd.grad(plain(*wide, 0.2), wide)
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(by_losses.double(), exact[0], rtol=rounding + 1e-5, atol=1e-7)
    torch.testing.assert_close(by_weights.double(), exact[1], rtol=1e-5, atol=0)


def test_only_what_needs_a_gradient_gets_one():
    losses, weights = draw(3, 4, 5), draw(3, seed=1)
    smoothed_worst_case(losses.detach(), weights, 0.1).backward()
    smoothed_worst_case(losses, weights.detach(), 0.1).backward()
    assert losses.grad is not None
    assert weights.grad is not None
    assert not smoothed_worst_case(losses.detach(), weights.detach(), 0.1).requires_grad


def test_losses_of_any_stride_are_taken():
    losses = draw(5, 4, 3).detach().permute(2, 1, 0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smoothed_worst_case(x, torch.ones(3), 0.3), (losses,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_a_model_gets_its_gradients(dtype):
    torch.manual_seed(0)
    models = [torch.nn.Linear(5, 3) for _ in range(2)]
    points, labels = torch.rand(4 * 6, 5), torch.randint(3, (4 * 6,))
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            scores = [torch.nn.functional.cross_entropy(m(points), labels, reduction="none") for m in models]
            losses = torch.stack(scores).reshape(2, 4, 6)
            value = smoothed_worst_case(losses.to(dtype) if enabled else losses, torch.full((2,), 0.5), 0.1)
        gradients.append(torch.autograd.grad(value, [m.weight for m in models]))
    for narrow, wide in zip(*gradients[::-1], strict=True):
        torch.testing.assert_close(narrow, wide, rtol=0, atol=0.1 * wide.abs().max().item())


def test_the_operations_keep_the_rules_of_torch():
    losses, weights, level = draw(3, 4, 5), draw(3, seed=1), torch.tensor(0.1, dtype=torch.float64)
    arguments = (losses, weights, level, None, None, None)
    torch.library.opcheck(torch.ops.mixsolve.worst_case, arguments)
    detached = tuple(None if x is None else x.detach() for x in arguments)
    torch.library.opcheck(torch.ops.mixsolve.worst_case_by_losses, (torch.tensor(2.0), *detached))


def test_compiled_code_keeps_them_whole():
    def step(losses, weights):
        return smoothed_worst_case(losses.exp(), weights.softmax(0), 0.1) + worst_case(losses, weights)

    graphs = []

    def backend(graph, _):
        graphs.append({node.target for node in graph.graph.nodes if node.op == "call_function"})
        return graph

    torch.compiler.reset()
    inputs = draw(3, 4, 5), draw(3, seed=1)
    expected = torch.autograd.grad(step(*inputs), inputs)
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    torch.testing.assert_close(torch.autograd.grad(compiled(*inputs), inputs), expected)
    [targets] = graphs
    assert any("mixsolve" in str(target) for target in targets)
    backward_too = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(backward_too(*inputs), inputs), expected)


@pytest.mark.parametrize("by", [0, 1], ids=["losses", "weights"])
def test_second_derivatives_are_refused(by):
    inputs = draw(3, 4, 5), draw(3, seed=1)
    value = smoothed_worst_case(*inputs, 0.1)
    [gradient] = torch.autograd.grad(value, inputs[by], create_graph=True)
    with pytest.raises(RuntimeError, match=r"no autograd formula|not implemented|NotImplemented"):
        torch.autograd.grad(gradient.sum(), inputs)


WRONG = {
    "temperature": ({"temperature": 0.0}, "`temperature` must be > 0"),
    "a temperature with a gradient": (
        {"temperature": torch.tensor(0.1, requires_grad=True)},
        "`temperature` must not require a gradient",
    ),
    "weights of another length": ({"weights": torch.ones(4)}, r"`weights` must have shape \(3,\)"),
    "weights that are not finite": (
        {"weights": torch.tensor([1.0, torch.inf, 0.0])},
        "`weights` must be finite",
    ),
    "losses of two dimensions": ({"losses": torch.ones(3, 4)}, "`losses` must have 3 dimensions"),
    "a loss that is not a number": ({"losses": torch.full((3, 4, 5), torch.nan)}, "`losses` must be finite"),
    "integers": ({"losses": torch.ones(3, 4, 5, dtype=torch.int64)}, "floating-point"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(given, message):
    arguments = {"losses": torch.ones(3, 4, 5), "weights": torch.ones(3), "temperature": 0.1, **given}
    with pytest.raises((ValueError, TypeError), match=message):
        smoothed_worst_case(**arguments)
