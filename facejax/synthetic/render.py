"""Synthetic faces: the embedded data source, rendered by JAX, labelled synthetic wherever used.

An `Identity` fixes the person, a `Nuisance` the photograph, and its severity is known, so that
what claims to know about an image's quality can be checked against the truth.
"""

import functools
import hashlib
import os
import pathlib
import sys
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from facejax import files
from facejax.compilation import jit
from facejax.synthetic import paint, person, shape
from facejax.synthetic.paint import (
    Layer,
    edge,
    face_layers,
    hair_color,
    occluder_layers,
    skin_color,
    strands,
)
from facejax.synthetic.person import Identity, Nuisance, draw_identity, draw_nuisance
from facejax.synthetic.shape import (
    Surface,
    ellipsoid,
    hair_distance,
    rotation,
    skin_distance,
    trace,
    wave,
)

_BATCH = 32  # images per call of the renderer; the arrays of more fall out of the cache


def _blend(image: jax.Array, layers: list[Layer]) -> jax.Array:
    """Layers laid over an image [3, S, S], the first one undermost."""
    for color, opacity in layers:
        image = image + (color[:, None, None] - image) * opacity[None]
    return image


def _plain(color: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(color[:, None, None], (3, *like.shape))


def _light(surface: Surface, nuisance: Nuisance) -> tuple[jax.Array, jax.Array]:
    """What the lamp and the surroundings make of a surface: a factor, and a gleam to add."""
    n, (nx, ny, nz), (_, y, z) = nuisance, surface.normal, surface.position
    lamp = jnp.stack([n.light_x, n.light_y, jnp.ones_like(n.light_x)])
    lamp = lamp * jax.lax.rsqrt((lamp * lamp).sum())
    half = lamp + jnp.array([0.0, 0.0, 1.0])
    half = half * jax.lax.rsqrt((half * half).sum())
    facing = jnp.maximum(lamp[0] * nx + lamp[1] * ny + lamp[2] * nz, 0.0)
    gleam = 0.12 * jnp.maximum(half[0] * nx + half[1] * ny + half[2] * nz, 0.0) ** 16
    under_chin = jnp.clip((-y - 0.75) * 4.0, 0.0, 1.0) * jnp.clip((0.45 - z) * 2.2, 0.0, 1.0)
    return (n.ambient + (1.15 - n.ambient) * facing) * (1.0 - 0.45 * under_chin), gleam


def _lit(surface: jax.Array, light: tuple[jax.Array, jax.Array]) -> jax.Array:
    return surface * light[0][None] + light[1][None]


def _blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """A Gaussian blur of [3, S, S] with a standard deviation of `sigma` pixels."""
    place = jnp.arange(image.shape[-1], dtype=image.dtype)
    offset = (place[:, None] - place[None, :]) / jnp.maximum(sigma, 0.1)
    kernel = jnp.exp(-0.5 * offset * offset)
    kernel = kernel / kernel.sum(1, keepdims=True)
    return jnp.einsum("ij,cjk,lk->cil", kernel, image, kernel)


def render(identity: Identity, nuisance: Nuisance, *, image_size: int) -> jax.Array:
    """The photograph of a synthetic person: uint8 RGB [image_size, image_size, 3].

    Pure: `jax.jit` it, and `jax.vmap` it for several. `draw_identity` and `draw_nuisance` make
    its arguments.
    """
    n = nuisance
    place = (2.0 * jnp.arange(image_size, dtype=jnp.float32) + 1.0) / image_size - 1.0
    u = jnp.broadcast_to(place[None, :], (image_size, image_size))
    v = jnp.broadcast_to(-place[:, None], (image_size, image_size))
    right, up = (u - n.shift_x) / n.scale, (v - n.shift_y) / n.scale
    pixel = 2.0 / (image_size * n.scale)

    turn = rotation(n)
    skin = trace(lambda x, y, z: skin_distance(x, y, z, identity, n), right, up, turn)
    hair = trace(lambda x, y, z: hair_distance(x, y, z, identity), right, up, turn)
    skin_cover = jnp.clip(1.0 - skin.distance / pixel, 0.0, 1.0)
    hair_cover = jnp.clip(1.0 - hair.distance / pixel, 0.0, 1.0)
    nearer = edge(skin.depth - hair.depth, pixel)
    painted = face_layers(*skin.position, pixel, identity, n)
    shadow, between = strands(hair.position[0], hair.position[1], identity)
    blobs = wave(u * n.occluder_y + 0.8 * v + n.occluder_x) * wave(u - v * n.occluder_x)
    torso = edge(ellipsoid(right, up + 2.15, jnp.zeros_like(up), 1.25, 0.95, 1.0), pixel)
    occluders = occluder_layers(u, v, 2.0 / image_size, n)

    # Opacities are made once, not once for each of the three colours.
    opacities = (skin_cover, hair_cover, nearer, painted, between, blobs, torso, occluders)
    opacities = jax.lax.optimization_barrier((*opacities, _light(skin, n), _light(hair, n)))
    skin_cover, hair_cover, nearer, painted, between, blobs, torso, occluders, *lights = opacities
    face = _lit(_blend(_plain(skin_color(identity), u), painted), lights[0])
    locks = _lit(_blend(_plain(hair_color(identity), u), [(shadow, between)]), lights[1])
    image = n.background[:, None, None] + (n.background_contrast * blobs)[None]
    image = _blend(image, [(n.clothes, torso)])
    for surface, cover in (
        (locks, hair_cover * (1.0 - nearer)),
        (face, skin_cover),
        (locks, hair_cover * nearer),
    ):
        image = image + (surface - image) * cover[None]
    image = image * (n.exposure * n.light_color)[:, None, None]
    image = _blur(_blend(image, occluders), n.blur * image_size)
    image = image + (n.noise * jax.random.normal(n.key, image.shape[1:]))[None]
    return jnp.clip(jnp.round(255.0 * image), 0.0, 255.0).astype(jnp.uint8).transpose(1, 2, 0)


@functools.cache
def _photographer(image_size: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The compiled program: a key, people [B], images [B] -> pictures and their severities."""

    def photograph(key: jax.Array, who: jax.Array, shot: jax.Array) -> tuple[jax.Array, jax.Array]:
        person_key = jax.random.fold_in(key, who)
        identity_key, shots_key = jax.random.split(person_key)
        severity_key, nuisance_key = jax.random.split(jax.random.fold_in(shots_key, shot))
        severity = jax.random.uniform(severity_key)
        nuisance = draw_nuisance(nuisance_key, severity)
        return render(draw_identity(identity_key), nuisance, image_size=image_size), severity

    return jit(jax.vmap(photograph, in_axes=(None, 0, 0)))


def _fingerprint(arguments: tuple[int, ...]) -> str:
    """Of what is rendered, the renderer itself included."""
    digest = hashlib.sha256(repr((arguments, jax.__version__)).encode())
    for module in (person, paint, shape, sys.modules[__name__]):
        digest.update(pathlib.Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()[:16]


class SyntheticFaces:
    """A source of synthetic faces, rendered at construction and held in memory.

    Image `j` of person `k`, counted from person 0 of the seed, is bitwise the same whatever
    slice of the people it is rendered with; disjoint ranges of people share nobody. `cache` is a
    folder (`~` is the home) where what was rendered is kept for the next time; it is rendered again
    where that is damaged, and a folder that cannot be written is a warning. Severity is
    uniform in [0, 1]; see `draw_nuisance`. `source[i]` is `{"image", "label", "severity"}`.

    Attributes:
      images: uint8 RGB [N, image_size, image_size, 3], person by person,
        N = identities x images_per_identity.
      labels: int32 [N], from 0 to identities - 1: the person, counted from `first_identity`.
      severity: float32 [N] in [0, 1].
      num_classes: identities.

    Raises:
      ValueError: a count below 1, a negative first identity or seed, or an image size that is
        not a multiple of 8 between 32 and 112.
    """

    def __init__(
        self,
        *,
        identities: int,
        images_per_identity: int,
        image_size: int,
        seed: int,
        first_identity: int = 0,
        cache: str | os.PathLike[str] | None = None,
    ):
        if identities < 1 or images_per_identity < 1:
            raise ValueError(
                f"identities and images_per_identity must be at least 1, not {identities} and "
                f"{images_per_identity}"
            )
        if first_identity < 0 or seed < 0:
            raise ValueError(f"first_identity {first_identity} or seed {seed} is negative")
        if image_size % 8 or not 32 <= image_size <= 112:
            raise ValueError(f"image_size {image_size} is not a multiple of 8 from 32 to 112")
        count = identities * images_per_identity
        self.num_classes = identities
        self.labels = np.repeat(np.arange(identities, dtype=np.int32), images_per_identity)
        self.images = np.empty((count, image_size, image_size, 3), np.uint8)
        self.severity = np.empty((count,), np.float32)
        if cache is None:
            self._render(first_identity, images_per_identity, image_size, seed)
            return
        arguments = (identities, images_per_identity, image_size, seed, first_identity)
        kept_at = files.expand(cache) / f"synthetic-{_fingerprint(arguments)}.npz"
        if not self._load(kept_at):
            self._render(first_identity, images_per_identity, image_size, seed)
            self._save(kept_at)

    def _load(self, path: pathlib.Path) -> bool:
        """Takes what is kept; False if there is nothing, or not what was written."""
        kept = files.load_arrays(path, "images", "severity")
        wanted = [(array.shape, array.dtype) for array in (self.images, self.severity)]
        if kept is None or [(array.shape, array.dtype) for array in kept] != wanted:
            return False
        self.images, self.severity = kept
        return True

    def _save(self, path: pathlib.Path) -> None:
        try:
            with files.replacing(path) as partial:
                np.savez(partial, images=self.images, severity=self.severity)
        except OSError as error:  # the faces are there all the same
            warnings.warn(
                f"the rendered faces cannot be kept in {path.parent} ({error}), and are rendered "
                "again next time: give a cache that can be written",
                stacklevel=3,
            )

    def _render(
        self, first_identity: int, images_per_identity: int, image_size: int, seed: int
    ) -> None:
        count = len(self.labels)
        photograph = _photographer(image_size)
        for start in range(0, count, _BATCH):
            # The last batch is filled up: every batch runs the one compiled program.
            index = np.minimum(np.arange(start, start + _BATCH), count - 1)
            who = (first_identity + index // images_per_identity).astype(np.int32)
            shot = (index % images_per_identity).astype(np.int32)
            pictures, severity = photograph(jax.random.key(seed), who, shot)
            kept = slice(start, min(start + _BATCH, count))
            self.images[kept] = np.asarray(pictures)[: kept.stop - start]
            self.severity[kept] = np.asarray(severity)[: kept.stop - start]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, np.ndarray | int | float]:
        """The image uint8 [S, S, 3], its label and its severity."""
        return {
            "image": self.images[index],
            "label": int(self.labels[index]),
            "severity": float(self.severity[index]),
        }
