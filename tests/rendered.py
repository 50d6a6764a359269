"""Rendered faces whose nuisances are known, and five-point stand-ins for recognition's tests.

    python -m tests.rendered

writes those that several tests want into one picture, for the renderer takes longer to compile than
they take; a slow test renders them again.
"""

import functools
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from facejax.synthetic import draw_identity, draw_nuisance, render

BLURS = (0.0, 0.008, 0.016, 0.03)  # standard deviation as a share of the width
YAWS = (-0.7, -0.35, 0.0, 0.35, 0.7)
# (person, blur, yaw) of each picture that is kept.
KEPT = (
    *((person, blur, 0.0) for person in (3, 10) for blur in BLURS),
    *((person, 0.0, yaw) for person in (3, 10) for yaw in YAWS if yaw),
    *((person, 0.0, 0.0) for person in (0, 8, 14, 22)),
    (3, 0.0, 0.2),
)
SIZE = 112
_FILE = pathlib.Path(__file__).with_name("rendered.png")  # one above the other


def kept(person: int, *, blur: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """A passport photograph uint8 [112, 112, 3] of a person, but for the nuisances given."""
    return _pictures()[KEPT.index((person, blur, yaw))]


@functools.cache
def _pictures() -> np.ndarray:
    strip = cv2.imread(str(_FILE))[..., ::-1].reshape(-1, SIZE, SIZE, 3)
    strip.flags.writeable = False
    return strip


def rendered(people: list[int], size: int = SIZE, **nuisances: list[float]) -> np.ndarray:
    """As `kept`, uint8 [N, size, size, 3], of any people with any nuisances."""
    base = draw_nuisance(jax.random.key(0), jnp.float32(0.0))
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(people)), base)
    batch = batch._replace(
        **{name: jnp.array(values, jnp.float32) for name, values in nuisances.items()}
    )
    keys = jnp.stack([jax.random.key(person) for person in people])
    return np.asarray(_program(size)(jax.vmap(draw_identity)(keys), batch))


@functools.cache
def _program(size):
    return jax.jit(jax.vmap(functools.partial(render, image_size=size)))


def all_rendered() -> np.ndarray:
    """Those of `KEPT`, rendered now: uint8 [N, 112, 112, 3]."""
    people, blurs, yaws = (list(values) for values in zip(*KEPT, strict=True))
    return rendered(people, blur=blurs, yaw=yaws)


def yunet_or_skip():
    """The packaged detector, where its package is installed."""
    import pytest

    from facejax.errors import UserError
    from facejax.recognition.detection import YuNet

    try:
        return YuNet()
    except UserError as error:
        pytest.skip(str(error))


if __name__ == "__main__":
    strip = all_rendered().reshape(-1, SIZE, 3)[..., ::-1]
    cv2.imwrite(str(_FILE), strip, [cv2.IMWRITE_PNG_COMPRESSION, 9])
