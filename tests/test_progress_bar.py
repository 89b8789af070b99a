"""The bar of `mixsolve fit`: what it says, and that it is drawn and taken away again."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np

from mixsolve.progress_bar import WIDTH, ProgressBar
from mixsolve.results import Progress


def test_a_stream_shows_how_far_the_pass_is():
    stream = SimpleNamespace(nbytes=4_000_000_000, bytes_handed_out=0)
    bar = ProgressBar(io.StringIO(), stream)
    assert bar.line(0.0).startswith(f"pass 1 [{'.' * WIDTH}]   0 %, 0.0 GB/s")
    stream.bytes_handed_out = 2_000_000_000
    assert bar.line(0.5) == f"pass 1 [{'#' * 12}{'.' * 12}]  50 %, 4.0 GB/s, 0.5 s"
    stream.bytes_handed_out = 7_000_000_000
    bar(Progress(1, 1, 1.0, 0.75, 0.5, bytes_read=4_000_000_000))
    assert bar.line(2.0) == f"pass 2 [{'#' * 18}{'.' * 6}]  75 %, 3.5 GB/s, 2.0 s, gap 0.25"


def test_a_table_in_memory_shows_its_passes():
    bar = ProgressBar(io.StringIO())
    bar(Progress(3, 8, 1.0, 0.75, 0.5, bytes_read=3_000_000_000))
    assert bar.line(1.5) == "pass 3, 2.0 GB/s, 1.5 s, gap 0.25"


def test_the_line_is_cleared_at_the_end():
    terminal = io.StringIO()
    with ProgressBar(terminal):
        time.sleep(0.3)
    assert terminal.getvalue().count("pass 0") >= 1
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_fit_draws_it_on_a_terminal(tmp_path):
    losses = np.random.default_rng(0).random((20, 20_000, 20), dtype=np.float32)
    np.save(tmp_path / "losses.npy", losses)
    reading, writing = pty.openpty()
    command = [sys.executable, "-m", "mixsolve", "fit", str(tmp_path / "losses.npy"), "--memory-limit", "24M"]
    process = subprocess.Popen(command, stderr=writing, stdout=subprocess.PIPE, text=True)
    os.close(writing)
    drawn = b""
    try:
        while piece := os.read(reading, 4096):
            drawn += piece
    except OSError:  # the other end was closed: the process is done
        pass
    os.close(reading)
    assert "OPTIMAL" in process.communicate()[0]
    assert process.returncode == 0
    assert re.search(rb"pass \d \[[#.]{24}\] +\d+ %, \d+\.\d GB/s", drawn)
