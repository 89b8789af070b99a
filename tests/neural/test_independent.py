"""PGD and APGD with one member beside torchattacks, foolbox and pyautoattack: the same points."""

import pytest
import torch

from mixsolve.neural import APGD, PGD, AttackLoss, Budget, Keep, Mixture, Start
from tests.neural.networks import batch, small_net
from tests.neural.packages import package

RADIUS, STEP, STEPS = 0.08, 0.02, 12


@pytest.fixture
def one():
    """A mixture of one member, inputs and labels."""
    mixture = Mixture([small_net(3)]).eval()
    return mixture, *batch(mixture, 48)


@pytest.fixture
def pgd():
    return PGD(STEPS, step_size=STEP, start=Start.CLEAN, keep=Keep.LAST)


def test_pgd_is_that_of_torchattacks_bit_for_bit(one, pgd):
    torchattacks = package("torchattacks")
    mixture, x, y = one
    theirs = torchattacks.PGD(mixture.members[0], eps=RADIUS, alpha=STEP, steps=STEPS, random_start=False)
    assert torch.equal(pgd(mixture, x, y, Budget("linf", RADIUS)), theirs(x, y))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_is_that_of_foolbox(one, pgd, norm):
    foolbox = package("foolbox")
    mixture, x, y = one
    radius, step = (RADIUS, STEP) if norm == "linf" else (0.6, 0.15)
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    attack = kind(abs_stepsize=step, steps=STEPS, random_start=False)
    view = foolbox.PyTorchModel(mixture.members[0], bounds=(0, 1), device="cpu")
    theirs, _, _ = attack(view, x, y, epsilons=radius)
    ours = PGD(STEPS, step_size=step, start=Start.CLEAN, keep=Keep.LAST)(mixture, x, y, Budget(norm, radius))
    # l2: they divide by the length and multiply by the radius, we by their ratio: a few ulp a step.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if norm == "linf" else 2e-6)


def test_keeping_the_highest_loss_only_raises_it(one, pgd):
    """The ordinary PGD returns its last iterate; where that has the highest loss, keeping the highest is the same."""
    torchattacks = package("torchattacks")
    mixture, x, y = one
    budget = Budget("linf", RADIUS)
    theirs = torchattacks.PGD(mixture.members[0], eps=RADIUS, alpha=STEP, steps=STEPS, random_start=False)(
        x, y
    )
    ours = PGD(STEPS, step_size=STEP, start=Start.CLEAN, keep=Keep.LOSS)(mixture, x, y, budget)
    with torch.no_grad():
        their_loss, our_loss = mixture.expected_loss(theirs, y), mixture.expected_loss(ours, y)
    assert (our_loss >= their_loss - 1e-6).all()
    same = (ours == theirs).flatten(1).all(dim=1)
    assert 0 < int(same.sum()) < len(x)
    assert our_loss[~same].mean() > their_loss[~same].mean()


def random_surface(x, norm, seed):
    """The random start of both other implementations of APGD, from torch's generator as they seed it."""
    torch.manual_seed(seed)
    if norm == "linf":
        t = 2 * torch.rand(x.shape) - 1
        return t / t.flatten(1).abs().amax(dim=1).reshape(-1, 1, 1, 1)
    t = torch.randn(x.shape)
    return t / (t.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) + 1e-12)


def loss_of(mixture, points, y, loss):
    with torch.no_grad():
        return loss.of(mixture.member_logits(0, points), y)


@pytest.mark.parametrize("loss", [AttackLoss.CROSS_ENTROPY, AttackLoss.DLR])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pyautoattack", "torchattacks"])
def test_apgd_is_that_of_its_authors(one, name, norm, loss):
    """From the same random start, the same points of highest loss.

    One difference is left, of theirs: at the first checkpoint they compare the first step's loss with 0, not with
    that of the start. A cross-entropy is above 0, and almost every first step is a rise: nothing changes. A difference
    of logits ratio is below 0 where the member is right, so a rise may not count, and few samples go on with another
    step size; neither side is better on average.
    """
    tool = package(name)
    mixture, x, y = one
    radius = RADIUS if norm == "linf" else 0.6
    start = x + radius * random_surface(x, norm, seed=11)
    options = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": radius, "seed": 11}
    short = {AttackLoss.CROSS_ENTROPY: "ce", AttackLoss.DLR: "dlr"}[loss]
    torch.manual_seed(11)
    if name == "pyautoattack":
        from pyautoattack.autopgd_base import APGDAttack

        theirs = APGDAttack(mixture.members[0], n_iter=50, loss=short, device="cpu", **options)
        theirs = theirs.perturb(x, y, best_loss=True)
    else:
        attack = tool.APGD(mixture.members[0], steps=50, loss=short, **options)
        _, theirs = attack.perturb(x, y, best_loss=True)
    ours = APGD(50, loss=loss, keep=Keep.LOSS)(mixture, x, y, Budget(norm, radius), start=start)
    same = (ours - theirs).flatten(1).abs().amax(dim=1) < 1e-5
    our_loss, their_loss = (loss_of(mixture, p, y, loss) for p in (ours, theirs))
    assert same.float().mean() >= (1.0 if loss is AttackLoss.CROSS_ENTROPY else 0.9)
    torch.testing.assert_close(our_loss[same], their_loss[same], rtol=1e-4, atol=1e-5)
    assert float(our_loss.mean()) == pytest.approx(float(their_loss.mean()), rel=0.01)
