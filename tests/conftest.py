"""What tests share: how hypothesis searches, figures without a screen, Ctrl-C, instruction sets, what was left out."""

import os
import signal
from collections import Counter

import hypothesis
import pytest

from mixsolve import _native

# matplotlib reads this when it is first imported, which happens inside the tests that draw.
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell that runs the suite in the background has Ctrl-C ignored, by the processes that tests start too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One fixed search on every machine: a red test is red for everybody, and a slow machine is no reason to fail.
hypothesis.settings.register_profile("mixsolve", deadline=None, derandomize=True, print_blob=True)
# For a longer hunt: pytest --hypothesis-profile=explore
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("mixsolve")


@pytest.fixture
def isas():
    """The instruction sets of this machine, to be set at will: the one in use comes back afterwards."""
    before = _native.isa()
    yield _native.available_isas()
    _native.set_isa(before)


@pytest.fixture(params=_native.available_isas())
def isa(request, isas):
    """The test runs on every instruction set of this machine."""
    _native.set_isa(request.param)
    return request.param


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Say last, and loudly, what this machine could not test, and why."""
    yield
    skipped = terminalreporter.stats.get("skipped", ())
    if not skipped:
        return
    terminalreporter.section("NOT TESTED HERE", red=True, bold=True)
    for reason, count in Counter(report.longrepr[2] for report in skipped).most_common():
        terminalreporter.line(f"{count:5d} skipped: {reason.removeprefix('Skipped: ')}", red=True)
