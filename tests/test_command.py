"""The frame of train.py and eval.py: one sentence on a mistake, and no echoes of libraries."""

import sys
import threading
import types

import pytest
from absl import logging

from facejax import command
from facejax.errors import UserError


@pytest.fixture
def run(monkeypatch):
    """`command.run` without the parsing of flags; what it sets for a whole process is set back."""
    monkeypatch.setattr(command.app, "run", lambda guarded, **_: guarded(["program"]))
    monkeypatch.setattr(command.os, "_exit", sys.exit)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    verbosity = logging.get_verbosity()
    yield command.run
    logging.set_verbosity(verbosity)


@pytest.mark.parametrize(
    ("stopped", "status", "word"),
    [(UserError("give more"), 2, "give more"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_a_program_ends_with_its_status(stopped, status, word, run, capsys):
    def fail(_):
        raise stopped

    with pytest.raises(SystemExit) as end:
        run(fail)
    assert end.value.code == status
    assert capsys.readouterr().err.startswith(f"error: {word}")


def test_a_program_adds_the_remedy():
    with pytest.raises(UserError, match=r"^give more; with --more$"), command.remedy("with --more"):
        raise UserError("give more")
    with pytest.raises(KeyError), command.remedy("with --more"):
        raise KeyError("not a user's mistake")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Event loop is closed"), False),
        (RuntimeError("another"), True),
        (ValueError("Event loop is closed"), True),
    ],
)
def test_what_a_failed_write_leaves_behind_is_not_printed(error, said, run, monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "__unraisablehook__", printed.append)
    run(lambda _: sys.unraisablehook(types.SimpleNamespace(exc_type=type(error), exc_value=error)))
    assert [one.exc_value for one in printed] == [error] * said


def test_a_ctrl_c_that_comes_while_something_is_freed_is_not_lost(run, capsys):
    class Freed:
        def __del__(self):
            raise KeyboardInterrupt

    def main(_):
        Freed()
        threading.Event().wait(20)  # it comes at once
        raise AssertionError("it was lost")

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"
