"""A pass ends within 50 ms of Ctrl-C or of a cancelled token, whatever it is at work on."""

import os
import signal
import threading
import time
from statistics import median

import numpy as np
import pytest

from mixsolve import LossTable, _native
from mixsolve.passes import run_pass
from tests.pass_cases import endless_table

LATENCY = 0.05

# The middle one of so many: a busy machine may keep any single one waiting.
TRIALS = 3


def repeated(shape, dtype=np.float32):
    """A table of any size in the memory of one sample of one classifier."""
    losses = np.random.default_rng(0).random((1, 1, shape[-1])).astype(dtype)
    return LossTable(np.broadcast_to(losses, shape))


def mixtures(n_queries, n_classifiers):
    return np.random.default_rng(1).dirichlet(np.ones(n_classifiers), n_queries)


# Each would take a minute or more.
LONG_PASSES = {
    "short samples": lambda: (repeated((10, 30_000_000, 8)), mixtures(1, 10), {}),
    "long samples": lambda: (repeated((10, 300_000, 5000)), mixtures(1, 10), {}),
    "one sample": lambda: (repeated((1000, 1, 30_000_000), np.float16), mixtures(1, 1000), {}),
    "outputs asked for": lambda: (repeated((2000, 30_000, 100)), mixtures(1, 2000), {"best_attack": True}),
    "hundreds of queries": lambda: (
        repeated((1024, 3000, 700)),
        mixtures(1025, 1024),
        {"float64_scores": True},
    ),
    "other samples": lambda: (
        repeated((1000, 200_000, 60)),
        mixtures(1, 1000),
        {"samples": np.arange(1, 200_000, 2)},
    ),
}


def latency(call, stop, error):
    """Seconds from `stop()`, called in another thread after a while, to the end of the call with this error."""
    stopped = []

    def stop_soon():
        time.sleep(0.04)
        stopped.append(time.perf_counter())
        stop()

    stopper = threading.Thread(target=stop_soon)
    stopper.start()
    with pytest.raises(error):
        call()
    ended = time.perf_counter()
    stopper.join()
    return ended - stopped[0]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", LONG_PASSES)
def test_a_pass_ends_soon_after_ctrl_c(name):
    table, weights, options = LONG_PASSES[name]()

    def call():
        run_pass(table, weights, 0.1, **options)

    assert median(latency(call, interrupt, KeyboardInterrupt) for _ in range(TRIALS)) < LATENCY


@pytest.mark.parametrize("name", LONG_PASSES)
def test_a_pass_ends_soon_after_its_token_is_cancelled(name):
    table, weights, options = LONG_PASSES[name]()

    def trial():
        token = _native.CancelToken()
        return latency(
            lambda: run_pass(table, weights, 0.0, cancel=token, **options), token.cancel, _native.Cancelled
        )

    assert median(trial() for _ in range(TRIALS)) < LATENCY


@pytest.mark.parametrize("threads", [1, 3])
def test_it_does_on_every_instruction_set_and_at_any_number_of_threads(threads, isa):
    table, weights, options = LONG_PASSES["hundreds of queries"]()

    def call():
        run_pass(table, weights, 0.1, threads=threads, **options)

    assert median(latency(call, interrupt, KeyboardInterrupt) for _ in range(TRIALS)) < LATENCY


@pytest.mark.parametrize("scan", [_native.first_nonfinite, _native.extremes])
@pytest.mark.parametrize("shape", [(10, 200_000_000, 8), (1, 1_000_000, 1_000_000)])
def test_scans_end_soon_after_ctrl_c(scan, shape):
    native = repeated(shape, np.float16).native
    assert (
        median(latency(lambda: scan(native), interrupt, KeyboardInterrupt) for _ in range(TRIALS)) < LATENCY
    )


def test_a_cancelled_token_ends_a_pass_before_it_begins():
    token = _native.CancelToken()
    assert not token.cancelled
    token.cancel()
    assert token.cancelled
    with pytest.raises(_native.Cancelled):
        run_pass(LossTable(np.ones((2, 3, 4))), [[0.5, 0.5]], 0.0, cancel=token)


def test_what_a_signal_handler_raises_comes_through():
    class Alarm(Exception):
        pass

    def ring(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm):
            run_pass(endless_table(60), [[0.5, 0.5]], 0.1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_raises_nothing_does_not_end_the_pass():
    table, rung = endless_table(0.3), []
    alone = run_pass(table, [[0.4, 0.6]], 0.1)
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(time.perf_counter()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        found = run_pass(table, [[0.4, 0.6]], 0.1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) > 2
    assert (found.value[0], found.gradient.tolist()) == (alone.value[0], alone.gradient.tolist())


def test_after_an_interruption_passes_are_answered_as_before():
    table = endless_table(0.02)
    expected = run_pass(table, [[0.4, 0.6]], 0.1).gradient.tolist()
    endless = endless_table(60)
    for _ in range(5):
        token = _native.CancelToken()
        latency(
            lambda cancel=token: run_pass(endless, [[0.5, 0.5]], 0.1, cancel=cancel),
            token.cancel,
            _native.Cancelled,
        )
        assert run_pass(table, [[0.4, 0.6]], 0.1, threads=3).gradient.tolist() == expected


def test_ctrl_c_is_for_the_main_thread():
    """A pass in another thread goes on; the main thread, waiting for it, is interrupted."""
    table, answers, done = endless_table(0.5), [], threading.Event()

    def work():
        answers.append(run_pass(table, [[0.5, 0.5]], 0.1))
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert latency(lambda: done.wait(60), interrupt, KeyboardInterrupt) < 0.3
    assert not answers
    assert done.wait(60)
    worker.join()
    assert len(answers) == 1
