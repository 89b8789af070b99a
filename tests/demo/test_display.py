"""Progress: a moving count on a terminal, one line per stage elsewhere, nothing when quiet."""

import io

import pytest

from mixsolve.demo.display import Display


class Terminal(io.StringIO):
    def isatty(self):
        return True


def play(display):
    with display.stage("counting sheep"):
        display.step(1, 4)


def test_a_pipe_gets_one_line_per_stage():
    stream = io.StringIO()
    play(Display(stream=stream))
    assert stream.getvalue().startswith("counting sheep")
    assert stream.getvalue().count("\n") == 1
    assert "%" not in stream.getvalue()


def test_a_terminal_sees_the_count():
    stream = Terminal()
    play(Display(stream=stream))
    assert "25 %" in stream.getvalue()
    assert stream.getvalue().endswith(" s\n")


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_is_silent(kind):
    stream = kind()
    play(Display(quiet=True, stream=stream))
    assert stream.getvalue() == ""


def test_a_failing_stage_reports_no_end():
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Display(stream=stream).stage("breaking off"):
        raise KeyboardInterrupt
    assert stream.getvalue() == ""
