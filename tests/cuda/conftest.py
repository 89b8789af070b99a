"""The backend `emulated` for the tests of the CUDA pass; where it cannot be built they are skipped, and say why."""

import pytest

from mixsolve import LossTable
from tests.cuda.build import Unavailable
from tests.cuda.emulated import Emulated, native


@pytest.fixture(scope="session")
def emulator():
    """The compiled module."""
    try:
        return native()
    except Unavailable as reason:
        pytest.skip(f"the CUDA pass is not tested: {reason}")


@pytest.fixture
def emulate(emulator, monkeypatch):
    """`emulate(**sizes)`: from here on tables are on the emulated device, cut into tiles and chunks of such sizes."""

    def choose(module=None, **sizes):
        monkeypatch.setattr(LossTable, "backend", Emulated(module, **sizes))

    yield choose
    emulator.disturb_exponentials(0)
