"""The networks: their sizes, their normalisation inside, and the augmentation of images."""

import pytest
import torch

from mixsolve.neural import Augmentation
from mixsolve.neural.batches import augmented
from mixsolve.neural.models import CIFAR10_MEAN, CIFAR10_STD, Normalise, mlp, resnet18, small_cnn
from mixsolve.neural.noise import Noise


def test_resnet18_is_that_of_the_literature():
    network = resnet18()
    assert sum(p.numel() for p in network.parameters()) == 11_173_962
    assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert resnet18(100, width=8).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 100)


@pytest.mark.parametrize(
    ("network", "shape"), [(small_cnn(), (1, 28, 28)), (mlp(), (1, 8, 8))], ids=["cnn", "mlp"]
)
def test_small_networks(network, shape):
    assert network(torch.rand(3, *shape)).shape == (3, 10)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in network.modules())


def test_normalisation_is_part_of_the_network_and_its_state():
    layer = Normalise(CIFAR10_MEAN, CIFAR10_STD)
    x = torch.rand(2, 3, 4, 4)
    for channel in range(3):
        expected = (x[:, channel] - CIFAR10_MEAN[channel]) / CIFAR10_STD[channel]
        torch.testing.assert_close(layer(x)[:, channel], expected)
    assert set(layer.state_dict()) == {"mean", "std"}
    assert layer.half()(x.half()).dtype is torch.float16


def test_augmentation_crops_and_flips_as_the_sample_says():
    x = torch.arange(2 * 36.0).reshape(2, 1, 6, 6).expand(2, 3, 6, 6).repeat(100, 1, 1, 1) + 1
    numbers = torch.arange(200)
    moved = augmented(x, Augmentation.CROP_AND_FLIP, Noise(0, numbers))
    assert moved.shape == x.shape
    padded = torch.nn.functional.pad(x, [4] * 4)
    found = []
    for i in range(200):
        matches = [
            (top, left, flip)
            for top in range(9)
            for left in range(9)
            for flip in (False, True)
            if torch.equal(
                moved[i],
                (padded[i].flip(2) if flip else padded[i])[:, top : top + 6, (8 - left if flip else left) :][
                    :, :, :6
                ],
            )
        ]
        assert matches, "a crop of the padded image, flipped or not"
        found.append(matches[0])
    tops, lefts, flips = zip(*found, strict=True)
    assert set(tops) == set(range(9))
    assert len(set(lefts)) == 9
    assert 60 < sum(flips) < 140
    part = torch.tensor([150, 3])
    again = augmented(x[part], Augmentation.CROP_AND_FLIP, Noise(0, part))
    assert torch.equal(again, moved[part])
    assert torch.equal(augmented(x, Augmentation.NONE, Noise(0, numbers)), x)
