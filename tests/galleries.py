"""What the tests of the gallery share: three people in one, and what it answers, in short."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition.gallery import Gallery
from facejax.recognition.thresholds import Threshold
from tests.faces import photo

THRESHOLDS = (
    Threshold(far=1e-2, cosine=0.3, upper_bound=1.2e-2, negatives=10_000, data="toys"),
    Threshold(far=1e-3, cosine=0.4, upper_bound=1.5e-3, negatives=10_000, data="toys"),
)


def enroll_three(gallery: Gallery) -> Gallery:
    """Ann and Bob with two photos each, and Cyd with one."""
    for seed, (name, count) in enumerate([("Ann", 2), ("Bob", 2), ("Cyd", 1)]):
        gallery.enroll(name, np.array([photo(seed, number) for number in range(count)]))
    return gallery


def found(matches: Iterable[Any]) -> list[str | None]:
    return [match.name for match in matches]


def refused(action: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The sentence of the refusal."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
