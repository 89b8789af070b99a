"""Ctrl-C: the best so far with a true certificate, at every stage; the second one raises; the handler comes back."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from mixsolve import (
    Fista,
    LinearProgram,
    LossTable,
    OracleAnswer,
    OracleSubgradient,
    RowGeneration,
    Status,
    fit_mixture,
    worst_case,
)
from mixsolve.solvers.driver import Driver
from mixsolve.solvers.journal import Journal
from mixsolve.solvers.limits import Limits
from mixsolve.solvers.source import TableSource
from tests.certificates import assert_certificate
from tests.smooth_games import correlated_sigmoids

SETTINGS = {
    "Fista": (Fista(), 0.0),
    "Fista smoothed": (Fista(), 0.05),
    "OracleSubgradient": (OracleSubgradient(200), 0.0),
    "LinearProgram": (LinearProgram(), 0.0),
    "RowGeneration": (RowGeneration(), 0.0),
}
# Clarabel keeps Python from running until it is done; SCS forgets a signal that comes while it sets itself up.
BACKENDS = ["HIGHS", "OSQP"]

# Signals go to the whole process: these tests send them to themselves, and only where Python itself handles them.
pytestmark = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is not signal.default_int_handler, reason="SIGINT is handled by others"
)


@pytest.fixture(scope="module")
def losses():
    return correlated_sigmoids(6, 40, 30).astype(np.float32)


@pytest.fixture(autouse=True)
def the_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def late_presses_are_harmless():
    """A solve may end before the key is pressed."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    yield
    signal.signal(signal.SIGINT, before)


def press_after(seconds, pressed):
    """Ctrl-C from another thread, as a terminal sends it."""

    def press():
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, press)
    timer.start()
    return timer


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("setting", SETTINGS)
def test_between_passes(setting, stage, losses):
    solver, temperature = SETTINGS[setting]

    def callback(progress):
        if progress.passes == stage:
            signal.raise_signal(signal.SIGINT)

    result = fit_mixture(losses, solver=solver, temperature=temperature, tol=1e-13, callback=callback)
    reached = len(result.history) > stage or result.status is Status.INTERRUPTED
    if reached and setting != "LinearProgram":
        assert result.status is Status.INTERRUPTED
        assert result.passes <= stage + 1  # and the proof
    assert_certificate(result, losses)


def test_during_a_pass(late_presses_are_harmless):
    """The pass that is running ends at once: what was proved before it is what is returned.

    One sample repeated without memory (stride 0) makes a pass of about a second.
    """
    block = np.random.default_rng(0).random((4, 1, 16_384))
    trial = np.broadcast_to(block, (4, 1000, 16_384))
    begun = time.perf_counter()
    worst_case(trial, np.full(4, 0.25))
    repeats = int(1000 / (time.perf_counter() - begun))
    losses, pressed = np.broadcast_to(block, (4, repeats, 16_384)), []

    def callback(progress):
        if progress.passes == 1:
            press_after(0.2, pressed)

    result = fit_mixture(losses, solver=OracleSubgradient(50, loss_bound=1.0), tol=0, callback=callback)
    late = time.perf_counter() - pressed[0]
    assert result.status is Status.INTERRUPTED
    assert result.passes == 1
    assert late < 0.5 * result.history[0].seconds  # 50 ms of about a second, on a busy machine
    assert result.value == pytest.approx(fit_mixture(block, pass_limit=1).value, rel=1e-13)
    assert -np.inf < result.lower_bound < result.value


@pytest.mark.parametrize("backend", BACKENDS)
def test_during_a_linear_programme(backend, late_presses_are_harmless):
    """The waiting ends, whatever the backend does with signals; it runs on in its thread and ends by itself."""
    others = set(threading.enumerate())
    losses = correlated_sigmoids(8, 250, 60)
    options = {"OSQP": {"max_iter": 3000}}.get(backend, {})
    pressed = []

    def callback(progress):
        if progress.passes == 2:  # the rows are read; the backend comes next
            press_after(0.1, pressed)

    result = fit_mixture(losses, solver=LinearProgram(backend, options=options), callback=callback)
    if result.status is not Status.OPTIMAL:  # a fast machine may be done
        assert result.status is Status.INTERRUPTED
        assert time.perf_counter() - pressed[0] < 3
    assert_certificate(result, losses)
    for thread in set(threading.enumerate()) - others:
        thread.join()


def test_in_an_oracle():
    losses, calls = np.random.default_rng(0).random((3, 10, 4)), []

    def oracle(weights):
        calls.append(weights)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return OracleAnswer(losses, delta=0.0)

    result = fit_mixture(oracle, solver=OracleSubgradient(50, loss_bound=1.0), start=np.full(3, 1 / 3))
    assert result.status is Status.INTERRUPTED
    assert len(calls) == result.passes == 4
    assert result.value < np.inf


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_second_one_raises(setting, losses):
    solver, temperature = SETTINGS[setting]

    def callback(progress):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_mixture(losses, solver=solver, temperature=temperature, callback=callback)


def test_before_the_first_pass_there_is_a_certificate_all_the_same(losses):
    """The start is evaluated after all: one pass."""
    source = TableSource(LossTable(losses), None)
    journal = Journal(None, False, None)
    driver = Driver(source, Fista(), 0.0, np.full(6, 1 / 6), Limits(), journal)
    driver._desk.interruption.requested = True  # a signal that came between the handler's start and the pass
    driver._desk.interruption.cancel.cancel()
    result = driver.run()
    assert result.status is Status.INTERRUPTED
    assert result.passes == 1
    assert_certificate(result, losses)


def test_in_another_thread_signals_are_left_alone(losses):
    handlers, results = [], []

    def solve():
        results.append(
            fit_mixture(losses, tol=1e-3, callback=lambda _: handlers.append(signal.getsignal(signal.SIGINT)))
        )

    thread = threading.Thread(target=solve)
    thread.start()
    thread.join()
    assert results[0].status is Status.OPTIMAL
    assert set(handlers) == {signal.default_int_handler}


def test_an_ignored_signal_stays_ignored(losses):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = fit_mixture(losses, tol=1e-3, callback=lambda _: signal.raise_signal(signal.SIGINT))
        assert result.status is Status.OPTIMAL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handler_comes_back_after_an_error():
    def callback(progress):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit_mixture(np.eye(3)[:, None], solver=OracleSubgradient(5), callback=callback)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
