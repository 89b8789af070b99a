"""The command line: through `main` where that is enough, as a real process where exit codes and signals count."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mixsolve import load_result
from mixsolve.cli import BAD_INPUT, LIMIT_OR_REFUSED, SOLVED, main
from tests.certificates import assert_certificate
from tests.problems import matching_pennies, random_real

MIXSOLVE = [sys.executable, "-m", "mixsolve"]


def run(*arguments):
    return subprocess.run(
        [*MIXSOLVE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def pennies(tmp_path):
    """A table whose value is 1/3, on disk."""
    path = tmp_path / "losses.npy"
    np.save(path, matching_pennies(3).losses)
    return path


@pytest.fixture
def solved(pennies, tmp_path):
    out = tmp_path / "result.json"
    assert main(["fit", str(pennies), "--out", str(out), "--quiet"]) == SOLVED
    return out


def test_fit_then_verify_as_processes(pennies, tmp_path):
    out = tmp_path / "result.json"
    fitted = run("fit", pennies, "--out", out)
    assert (fitted.returncode, fitted.stderr) == (0, "")
    assert "OPTIMAL" in fitted.stdout
    assert re.search(r"value +0\.33333", fitted.stdout)
    verified = run("verify", out, pennies)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.strip()


def test_what_fit_saves_is_certified(pennies, solved):
    result = load_result(solved)
    assert_certificate(result, np.load(pennies), tol=1e-6, value_interval=(1 / 3, 1 / 3))


def test_fit_takes_temperature_weights_priors_and_ragged_tables(tmp_path, capsys):
    rng = np.random.default_rng(0)
    tables = {
        "losses": rng.random((3, 10)),
        "row-offsets": np.array([0, 2, 6, 10]),
        "sample-weight": np.array([1.0, 2.0, 3.0]),
        "attack-prior": np.array([0.5, 0.5, *[0.25] * 8]),
    }
    for name, array in tables.items():
        np.save(tmp_path / f"{name}.npy", array)
    extras = [word for name in list(tables)[1:] for word in (f"--{name}", str(tmp_path / f"{name}.npy"))]
    losses, out = str(tmp_path / "losses.npy"), str(tmp_path / "result.json")
    assert main(["fit", losses, *extras, "--temperature", "0.1", "--out", out]) == SOLVED
    assert main(["verify", out, losses, *extras]) == SOLVED
    assert "temperature" not in capsys.readouterr().err
    belongings = {name.replace("-", "_"): array for name, array in tables.items() if name != "losses"}
    result = load_result(out)
    assert result.temperature == 0.1
    assert_certificate(result, tables["losses"], tol=1e-6, **belongings)


def test_a_limit_reached_first_is_exit_code_1(tmp_path, capsys):
    path = tmp_path / "losses.npy"
    np.save(path, random_real(6).losses)
    arguments = ["fit", str(path), "--temperature", "0.001", "--tol", "1e-12", "--pass-limit", "3"]
    assert main(arguments) == LIMIT_OR_REFUSED
    assert "PASS_LIMIT" in capsys.readouterr().out


def test_verify_refuses_another_table(solved, tmp_path, capsys):
    other = tmp_path / "other.npy"
    np.save(other, 1.0 - matching_pennies(3).losses)
    assert main(["verify", str(solved), str(other)]) == LIMIT_OR_REFUSED
    assert capsys.readouterr().out.strip()


def test_verify_refuses_an_edited_result(pennies, solved, capsys):
    document = json.loads(solved.read_text())
    document["content"]["value"] *= 0.5
    solved.write_text(json.dumps(document))
    assert main(["verify", str(solved), str(pennies)]) == LIMIT_OR_REFUSED
    assert "digest does not match" in capsys.readouterr().err


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_quiet_prints_nothing(pennies, tmp_path, quiet, capsys):
    out = str(tmp_path / "result.json")
    assert main(["fit", str(pennies), "--out", out, *quiet]) == SOLVED
    assert main(["verify", out, str(pennies), *quiet]) == SOLVED
    printed = capsys.readouterr()
    assert bool(printed.out) == (not quiet)
    assert printed.err == ""


def test_verbose_prints_the_log(pennies, capsys):
    assert main(["fit", str(pennies), "--verbose"]) == SOLVED
    assert "pass" in capsys.readouterr().out


def truncated(path):
    path.write_bytes(path.read_bytes()[:60])


def not_an_array(path):
    path.write_text("losses")


def archive(path):
    with open(path, "wb") as file:
        np.savez(file, losses=np.zeros((2, 2, 2)))


def two_dimensional(path):
    np.save(path, np.zeros((2, 3)))


def not_finite(path):
    losses = np.zeros((2, 3, 4))
    losses[1, 2, 3] = np.nan
    np.save(path, losses)


def pickled(path):
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (os.remove, "`losses` must be a .npy file of numbers; .* does not exist"),
        (truncated, "`losses` must be a .npy file of numbers; .* is not"),
        (not_an_array, "`losses` must be a .npy file of numbers; .* is not"),
        (pickled, "`losses` must be a .npy file of numbers; .* is not"),
        (archive, "`losses` must be a .npy file of numbers; .* is an archive of several arrays"),
        (two_dimensional, r"`losses` must have 3 dimensions .*; got shape \(2, 3\)"),
        (not_finite, r"`losses` .*nan"),
    ],
)
def test_bad_tables_are_exit_code_2_and_one_line(pennies, spoil, message, capsys):
    spoil(pennies)
    assert main(["fit", str(pennies)]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(f"mixsolve: error: .*{message}.*\n", printed.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "`temperature` must"),
        (["--tol", "-1"], "`tol` must"),
        (["--pass-limit", "0"], "`pass_limit` must"),
        (["--out", "/no/such/folder/result.json"], "`--out` must lie in an existing folder"),
        (["--sample-weight", "missing.npy"], "`sample_weight` must be a .npy file"),
        (["--temperature", "warm"], "argument --temperature: invalid float value: 'warm'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_bad_options_are_exit_code_2(pennies, arguments, message, capsys):
    assert main(["fit", str(pennies), *arguments]) == BAD_INPUT
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["frobnicate"], ["verify"], ["verify", "missing.json", "missing.npy"]]
)
def test_bad_usage_is_exit_code_2(arguments, capsys):
    assert main(arguments) == BAD_INPUT
    assert capsys.readouterr().err


def test_a_truncated_result_is_bad_input(pennies, solved, capsys):
    truncated(solved)
    assert main(["verify", str(solved), str(pennies)]) == BAD_INPUT
    assert "truncated" in capsys.readouterr().err


def test_help_names_the_commands_the_exit_codes_and_fits_a_terminal():
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for word in ("demo", "fit", "verify", "info", "exit codes"):
        assert word in shown.stdout
    for command in ("demo", "fit", "verify", "info"):
        shown = subprocess.run(
            [*MIXSOLVE, command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert "exit codes" in shown.stdout
        assert max(map(len, shown.stdout.splitlines())) <= 100


def test_a_reader_that_leaves_ends_the_command_without_a_traceback(pennies):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*MIXSOLVE, "fit", str(pennies)], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_info_names_versions_and_extras(capsys):
    assert main(["info"]) == SOLVED
    printed = capsys.readouterr().out
    for word in ("mixsolve", "python", "instruction sets", "numpy", "scipy", "cvxpy", "torch"):
        assert word in printed


def test_demo_as_a_process_writes_to_the_named_folder(tmp_path):
    folder = tmp_path / "pictures"
    shown = run("demo", "--small", "--out", folder)
    assert shown.returncode == 0, shown.stderr
    assert "strictly better from radius" in shown.stdout
    assert str(folder) in shown.stdout
    assert "plane: exact solution" in shown.stderr
    assert (folder / "report.json").is_file()


def interrupt(process, ready):
    """Send Ctrl-C once `ready` answers True, and return the exit code."""
    deadline = time.monotonic() + 30
    while not ready() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def test_ctrl_c_ends_fit_with_the_best_so_far(tmp_path):
    table, out, log = tmp_path / "losses.npy", tmp_path / "result.json", tmp_path / "log"
    np.save(table, np.random.default_rng(0).random((30, 300, 50)))
    command = [*MIXSOLVE, "fit", table, "--temperature", "1e-7", "--tol", "1e-13", "--verbose", "--out", out]
    with open(log, "w") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        code = interrupt(process, lambda: log.read_text().count("\n") > 5)
    assert code == LIMIT_OR_REFUSED
    assert "Traceback" not in log.read_text()
    result = load_result(out)
    assert result.status.name == "INTERRUPTED"
    assert_certificate(result, np.load(table))


def test_ctrl_c_ends_the_demo_without_a_traceback(tmp_path):
    folder, log = tmp_path / "pictures", tmp_path / "log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [*MIXSOLVE, "demo", "--out", str(folder)], stdout=output, stderr=subprocess.STDOUT
        )
        code = interrupt(process, folder.is_dir)
    assert code == 130
    assert log.read_text().splitlines()[-1] == "mixsolve: interrupted"
    assert "Traceback" not in log.read_text()


def test_fit_takes_folders_and_several_files(tmp_path, capsys):
    losses = random_real(4, 40, 6).losses
    folder = tmp_path / "shards"
    folder.mkdir()
    files = [folder / "a.npy", folder / "b.npy"]
    np.save(files[0], losses[:, :15])
    np.save(files[1], losses[:, 15:])
    for given in ([folder], files):
        out = tmp_path / "result.json"
        assert main(["fit", *map(str, given), "--out", str(out), "--quiet"]) == SOLVED
        assert main(["verify", str(out), *map(str, given)]) == SOLVED
        assert capsys.readouterr().out.count("holds") == 3
        assert_certificate(load_result(out), losses, tol=1e-6)
    assert main(["fit", str(tmp_path / "nowhere.npy"), str(files[0])]) == BAD_INPUT
    assert "nowhere.npy does not exist" in capsys.readouterr().err


def test_fit_streams_what_is_larger_than_the_limit(tmp_path, capsys):
    losses = random_real(4, 40, 600).losses
    np.save(tmp_path / "losses.npy", losses)
    out, kept = tmp_path / "result.json", tmp_path / "kept"
    arguments = ["fit", str(tmp_path / "losses.npy"), "--out", str(out), "--checkpoint", str(kept), "--quiet"]
    assert main([*arguments, "--memory-limit", "500K"]) == SOLVED
    assert_certificate(load_result(out), losses, tol=1e-6)
    assert kept.exists()
    assert main([*arguments, "--memory-limit", "50K"]) == BAD_INPUT
    assert "`memory_limit` must be at least 6 times the largest sample" in capsys.readouterr().err
    assert main([*arguments, "--memory-limit", "plenty"]) == BAD_INPUT
    assert "`--memory-limit` must be a size such as 500M or 8G; got 'plenty'" in capsys.readouterr().err
