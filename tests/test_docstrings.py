"""The examples in the docstrings of the losses run; every loss has one, and its paper."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

from facejax import losses

MODULES = [
    losses.__name__,
    *(f"{losses.__name__}.{module.name}" for module in pkgutil.iter_modules(losses.__path__)),
]
OWN = {"margin_softmax", "margin_rows"}  # the engine, which no paper has
FUNCTIONS = [
    name for name in losses.__all__ if inspect.isfunction(getattr(losses, name)) and name not in OWN
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loss_has_an_example_and_a_reference(name):
    text = inspect.getdoc(getattr(losses, name)) or ""
    assert ">>>" in text
    assert "http" in text
