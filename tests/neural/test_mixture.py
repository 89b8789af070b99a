"""The three views of a mixture, its state, and what comes back after an attack."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mixsolve.neural import PGD, Budget, Mixture
from tests.neural.networks import batch, mixture_of_nets, small_net
from tests.refusals import refuse

WEIGHTS = [0.5, 0.3, 0.2]


def test_log_probabilities_are_those_of_the_mixture():
    mixture = mixture_of_nets(3, WEIGHTS)
    x, _ = batch(mixture)
    probability = sum(
        w * functional.softmax(m(x), dim=1) for w, m in zip(WEIGHTS, mixture.members, strict=True)
    )
    torch.testing.assert_close(mixture(x).exp(), probability)
    torch.testing.assert_close(mixture(x).exp().sum(dim=1), torch.ones(len(x)))


def test_confident_members_neither_overflow_nor_vanish():
    class Certain(nn.Module):
        def forward(self, x):
            return x * 1e4

    mixture = Mixture([Certain(), Certain()])
    x = torch.tensor([[0.0, 1.0, -1.0]])
    assert torch.isfinite(mixture(x)).all()
    assert mixture(x)[0, 1] == 0


def test_expected_loss_is_the_mean_of_the_members_losses():
    mixture = mixture_of_nets(3, WEIGHTS)
    x, y = batch(mixture)
    expected = sum(
        w * functional.cross_entropy(m(x), y, reduction="none")
        for w, m in zip(WEIGHTS, mixture.members, strict=True)
    )
    torch.testing.assert_close(mixture.expected_loss(x, y), expected)
    # Jensen: the loss of the average is at most the average loss, and not the same
    averaged = functional.nll_loss(mixture(x), y, reduction="none")
    assert (averaged < mixture.expected_loss(x, y)).all()


def test_the_sampler_draws_by_the_weights_and_from_its_seed():
    mixture = mixture_of_nets(3, WEIGHTS)
    drawn = mixture.draw(20_000, 0)
    counts = np.bincount(drawn.numpy(), minlength=3) / 20_000
    # Five standard deviations of a frequency of 20,000 draws.
    np.testing.assert_allclose(counts, WEIGHTS, atol=5 * math.sqrt(0.25 / 20_000))
    x, _ = batch(mixture, 200)
    generator = torch.Generator().manual_seed(3)
    first, second = mixture.predict(x, generator), mixture.predict(x, generator)
    assert not torch.equal(first, second), "every call draws anew"
    torch.testing.assert_close(mixture.predict(x, torch.Generator().manual_seed(3)), first)
    members = mixture.draw(200, torch.Generator().manual_seed(3))
    with torch.no_grad():
        answers = torch.stack([m(x).argmax(dim=1) for m in mixture.members])
    torch.testing.assert_close(first, answers[members, torch.arange(200)])


def test_a_member_of_weight_0_is_not_asked():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("asked")

    mixture = Mixture([small_net(0), Broken()], [1.0, 0.0])
    x, y = batch(mixture)
    torch.testing.assert_close(mixture(x), functional.log_softmax(mixture.members[0](x), dim=1))
    mixture.expected_loss(x, y)
    mixture.predict(x, 0)
    with pytest.raises(RuntimeError, match="asked"):
        mixture.right(x, y)


def test_the_weights_are_part_of_the_state(tmp_path):
    mixture = mixture_of_nets(3, WEIGHTS)
    torch.save(mixture.state_dict(), tmp_path / "state.pt")
    other = mixture_of_nets(3)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.weights.tolist() == mixture.weights.tolist()
    assert math.fsum(other.weights.tolist()) == 1.0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_members_are_cast_and_weights_keep_their_precision(kind):
    mixture = mixture_of_nets(3, WEIGHTS)
    x, y = batch(mixture)
    before, weights = mixture(x), mixture.weights.clone()
    mixture.to(kind)
    assert mixture.weights.dtype is torch.float64
    assert torch.equal(mixture.weights, weights)
    assert all(p.dtype is kind for p in mixture.parameters())
    assert mixture(x).dtype is (torch.float64 if kind is torch.float64 else torch.float32)
    # bfloat16 keeps 8 bits: logits of size 1 move by some percent
    torch.testing.assert_close(mixture(x).float(), before, rtol=0.05, atol=0.05)
    budget = Budget("linf", 0.1)
    for given in (x, x.to(kind)):
        moved = PGD(5)(mixture, given, y, budget, generator=torch.Generator().manual_seed(0))
        assert moved.dtype is given.dtype
        assert mixture.fraction(moved, y).mean() <= mixture.fraction(given, y).mean()


def test_reweighing_shares_the_members():
    mixture = mixture_of_nets(3, WEIGHTS)
    other = mixture.reweighed([0.0, 0.0, 1.0])
    assert all(a is b for a, b in zip(mixture.members, other.members, strict=True))
    assert mixture.weights.tolist() == pytest.approx(WEIGHTS)
    mixture.reweigh(torch.tensor([1.0, 0.0, 0.0]))
    assert mixture.weights.tolist() == [1.0, 0.0, 0.0]


def modes_and_flags(mixture):
    return [m.training for m in mixture.modules()], [p.requires_grad for p in mixture.parameters()]


def test_modes_and_flags_come_back_also_after_an_error():
    mixture = mixture_of_nets(2).train()
    mixture.members[1].eval()
    next(mixture.parameters()).requires_grad_(False)
    before = modes_and_flags(mixture)
    x, y = batch(mixture)

    def fail(module, args):
        assert not any(m.training for m in mixture.modules())
        assert not any(p.requires_grad for p in mixture.parameters())
        raise RuntimeError("in the middle")

    PGD(2)(mixture, x, y, Budget())
    assert modes_and_flags(mixture) == before
    handle = mixture.members[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        PGD(2)(mixture, x, y, Budget())
    handle.remove()
    assert modes_and_flags(mixture) == before
    assert all(p.grad is None for p in mixture.parameters())


def test_bad_mixtures_are_refused():
    refuse(ValueError, "members", "at least one", "none", lambda: Mixture([]))
    refuse(TypeError, "members[1]", "torch.nn.Module", "str", lambda: Mixture([nn.Flatten(), "net"]))
    refuse(ValueError, "weights", "sum to 1", "0.9", lambda: mixture_of_nets(2, [0.5, 0.4]))
    refuse(ValueError, "weights", r"\(2,\)", r"\(3,\)", lambda: mixture_of_nets(2, WEIGHTS))
