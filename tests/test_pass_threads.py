"""One answer, to the last bit: at any number of threads, run to run, from several Python threads at once."""

import threading
import time
from itertools import product

import numpy as np
import pytest
import torch

from mixsolve.passes import run_pass
from tests.pass_cases import LAYOUTS, STORAGES, case, draw_case, endless_table
from tests.pass_checks import accuracy_of, assert_within

EVERYTHING = {"per_sample": True, "best_attack": True, "best_row": True}


def ask(asked, table=None, **options):
    return run_pass(
        table or asked.table(), asked.weights, asked.temperature, samples=asked.samples, **options
    )


def assert_same_bits(answer, other):
    for name in ("value", "gradient", "per_sample", "best_attack", "best_row"):
        mine, its = getattr(answer, name), getattr(other, name)
        if mine is not None and its is not None:
            assert mine.tobytes() == its.tobytes(), f"{name} differs"


def large_case(storage, n_attacks, n_classifiers=5, n_bytes=6_000_000, seed=0):
    """Dozens of chunks of work, so that every thread gets some."""
    rng = np.random.default_rng(seed)
    n_samples = n_bytes // np.dtype(STORAGES[storage]).itemsize // n_attacks // n_classifiers
    losses = rng.random((n_classifiers, n_samples, n_attacks), dtype=np.float32).astype(STORAGES[storage])
    weights, sample_weight = rng.dirichlet(np.ones(n_classifiers), 3), rng.random(n_samples)
    return case(losses, weights, [0.0, 0.05, 10.0], sample_weight=sample_weight)


@pytest.mark.parametrize(("n_attacks", "n_classifiers"), [(1, 50), (8, 20), (100, 5), (700, 5)])
@pytest.mark.parametrize("storage", STORAGES)
def test_any_number_of_threads_gives_the_same_bits(storage, n_attacks, n_classifiers, isa):
    asked = large_case(storage, n_attacks, n_classifiers)
    table = asked.table()
    alone = ask(asked, table, threads=1, **EVERYTHING)
    for threads in (2, 3, 8, 100, None, 1):
        assert_same_bits(ask(asked, table, threads=threads, **EVERYTHING), alone)


@pytest.mark.parametrize("layout", [*LAYOUTS, None])
def test_every_layout_gives_the_same_bits_again(layout, isa):
    for seed, storage in product(range(3), STORAGES):
        asked = draw_case(np.random.default_rng(seed), storage, layout)
        alone = ask(asked, threads=1, **EVERYTHING)
        for threads in (2, 8):
            assert_same_bits(ask(asked, threads=threads, **EVERYTHING), alone)


@pytest.mark.parametrize("float64_scores", [False, True])
def test_the_bits_do_not_depend_on_what_else_is_asked_for(float64_scores, isa):
    for n_attacks, n_classifiers in product((3, 60, 1500), (4, 40)):
        asked = large_case("float32", n_attacks, n_classifiers, n_bytes=400_000)
        for query in range(3):
            one = case(asked.losses, asked.weights[query], asked.temperature[[query]], **asked.keywords)
            everything = ask(one, float64_scores=float64_scores, **EVERYTHING)
            for wanted in product([False, True], repeat=3):
                options = dict(zip(EVERYTHING, wanted, strict=True))
                assert_same_bits(ask(one, float64_scores=float64_scores, **options), everything)


@pytest.mark.parametrize("storage", STORAGES)
def test_queries_asked_together_are_answered_as_alone(storage, isa):
    """Best attacks to the last bit; sums within rounding, for queries that share a read may be summed in groups."""
    for n_attacks, n_classifiers in product((3, 60, 1500), (1, 4, 40)):
        rng = np.random.default_rng(n_attacks)
        losses = rng.random((n_classifiers, 60, n_attacks)).astype(STORAGES[storage])
        weights = rng.dirichlet(np.ones(n_classifiers), 9)
        temperature = np.where(np.arange(9) % 3 == 0, 0.0, 0.2)
        for n_queries in range(1, 10):
            together = case(losses, weights[:n_queries], temperature[:n_queries])
            many, accuracy = ask(together, **EVERYTHING), accuracy_of(together, False)
            alone = ask(case(losses, weights[n_queries - 1], temperature[[n_queries - 1]]), **EVERYTHING)
            assert many.best_attack[-1].tolist() == alone.best_attack[0].tolist()
            assert many.best_row[-1].tolist() == alone.best_row[0].tolist()
            if temperature[n_queries - 1] == 0:
                assert many.per_sample[-1].tolist() == alone.per_sample[0].tolist()
            assert_within(many.per_sample[-1] - alone.per_sample[0], accuracy)
            assert_within(many.value[-1] - alone.value[0], accuracy)
            assert_within(many.gradient[-1] - alone.gradient[0], 10 * accuracy)  # 2 / temperature


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_thread_that_flushes_subnormal_numbers_gets_the_same_answer(storage, isa):
    """float16 knows no other losses between 6e-8 and 6e-5."""
    rng = np.random.default_rng(1)
    asked = case(
        (6e-5 * rng.random((3, 4000, 50))).astype(STORAGES[storage]), rng.dirichlet(np.ones(3)), [0.0]
    )
    table = asked.table()
    usual = ask(asked, table, **EVERYTHING)
    try:
        assert torch.set_flush_denormal(True)
        for threads in (1, 2):
            assert_same_bits(ask(asked, table, threads=threads, **EVERYTHING), usual)
        assert np.float32(1e-40) * np.float32(1) == 0, "the caller's own mode is back"
    finally:
        torch.set_flush_denormal(False)


def test_several_python_threads_at_once():
    cases = [
        large_case(storage, n_attacks, n_bytes=3_000_000, seed=n_attacks)
        for storage, n_attacks in product(STORAGES, (2, 90))
    ]
    expected = [ask(asked, threads=1, **EVERYTHING) for asked in cases]
    wrong = []

    def repeat(asked, answer, threads):
        table = asked.table()
        for _ in range(5):
            try:
                assert_same_bits(ask(asked, table, threads=threads, **EVERYTHING), answer)
            except AssertionError as difference:
                wrong.append(difference)

    callers = [
        threading.Thread(target=repeat, args=(asked, answer, threads))
        for (asked, answer), threads in zip(zip(cases, expected, strict=True), [1, 2, 3, 8] * 2, strict=True)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert not wrong


def test_one_table_shared_by_python_threads():
    asked = large_case("float32", 30, n_bytes=4_000_000)
    table, answers = asked.table(), []
    callers = [threading.Thread(target=lambda: answers.append(ask(asked, table))) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(answers) == 6
    for answer in answers:
        assert_same_bits(answer, ask(asked, table, threads=1))


@pytest.mark.parametrize("threads", [1, 2])
def test_other_python_threads_go_on_during_a_pass(threads):
    """The interpreter is free but for moments in which signals are looked for."""
    table, stamps, done = endless_table(seconds=0.4), [], threading.Event()

    def tick():
        while not done.is_set():
            stamps.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    begun = time.perf_counter()
    run_pass(table, [[0.5, 0.5]], 0.1, threads=threads)
    ended = time.perf_counter()
    done.set()
    ticker.join()
    during = [stamp for stamp in stamps if begun < stamp < ended]
    # Were it not, none would fall into the pass; a thread that sleeps for a millisecond at a time manages hundreds.
    assert ended - begun > 0.1
    assert len(during) > 20
