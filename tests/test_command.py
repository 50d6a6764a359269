"""The frame of the programs: what libraries print of their own stays unsaid."""

import sys
import types

import pytest

from facejax import command


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Event loop is closed"), False),
        (RuntimeError("another"), True),
        (ValueError("Event loop is closed"), True),
    ],
)
def test_what_a_failed_write_leaves_behind_is_not_printed(error, said, monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "__unraisablehook__", printed.append)
    unraisable = types.SimpleNamespace(exc_type=type(error), exc_value=error)
    command._without_echoes(unraisable)
    assert printed == [unraisable] * said
    assert sys.unraisablehook is not command._without_echoes, "of the programs alone"
