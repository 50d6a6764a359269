"""The head of a synthetic person as a signed-distance field, and the rays that meet it.

Coordinates are those of `person`. Distances are positive outside, first-order near the
surface, in head units.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.synthetic.person import Identity, Nuisance

Scalar = jax.Array | float
Point = tuple[jax.Array, jax.Array, jax.Array]  # x, y, z, of one shape

_MARCH_STEPS = 11


def wave(turns: jax.Array) -> jax.Array:
    """A parabolic sine of period 1, ten times cheaper than the sine on a CPU."""
    t = turns - jnp.round(turns)
    return 8.0 * t * (1.0 - 2.0 * jnp.abs(t))


def bump(*offsets: jax.Array) -> jax.Array:
    """1 at the origin, 0 outside the unit ball, smooth between."""
    inside = jnp.ones_like(offsets[0])
    for offset in offsets:
        inside = inside - offset * offset
    inside = jnp.maximum(inside, 0.0)
    return inside * inside


def _smooth_min(a: jax.Array, b: jax.Array, width: float) -> jax.Array:
    h = jnp.maximum(width - jnp.abs(a - b), 0.0)
    return jnp.minimum(a, b) - 0.25 / width * h * h


def ellipsoid(
    x: jax.Array, y: jax.Array, z: jax.Array, rx: Scalar, ry: Scalar, rz: Scalar
) -> jax.Array:
    """Distance to an axis-aligned ellipsoid about the origin."""
    ix, iy, iz = 1.0 / rx, 1.0 / ry, 1.0 / rz  # scalars: a division per pixel is dear
    a, b, c = x * ix, y * iy, z * iz
    k = a * a + b * b + c * c + 1e-9
    a, b, c = a * ix, b * iy, c * iz
    return (k - jnp.sqrt(k)) * jax.lax.rsqrt(a * a + b * b + c * c + 1e-9)


def _rod(
    x: jax.Array,
    y: jax.Array,
    z: jax.Array,
    start: tuple[Scalar, Scalar],
    end: tuple[Scalar, Scalar],
    start_radius: Scalar,
    end_radius: Scalar,
) -> jax.Array:
    """Distance to a rod from `start` to `end`, both (y, z) in the plane x = 0."""
    dy, dz = end[0] - start[0], end[1] - start[1]
    t = jnp.clip(((y - start[0]) * dy + (z - start[1]) * dz) / (dy * dy + dz * dz), 0.0, 1.0)
    ry, rz = y - start[0] - t * dy, z - start[1] - t * dz
    return (
        jnp.sqrt(x * x + ry * ry + rz * rz + 1e-9) - start_radius - t * (end_radius - start_radius)
    )


def nose_and_mouth(identity: Identity) -> tuple[jax.Array, jax.Array]:
    """Heights y of the nose's tip and of the closed mouth."""
    nose = identity.eye_height - identity.nose_length
    return nose, nose - identity.mouth_gap


def skin_distance(
    x: jax.Array, y: jax.Array, z: jax.Array, identity: Identity, nuisance: Nuisance
) -> jax.Array:
    """Distance to the bare head, neck and ears."""
    p, drop = identity, nuisance.mouth_open
    nose_y, mouth_y = nose_and_mouth(p)
    side = jnp.abs(x)
    skull = ellipsoid(x, y - 0.22, z + 0.08, p.head_width, p.head_height, 0.92)
    jaw = ellipsoid(x, y + 0.3, z - 0.08, p.jaw_width, 0.56, 0.66)
    chin = ellipsoid(x, y + p.chin_drop - 0.08 + drop, z - 0.5, p.chin_width, 0.14, 0.17)
    head = _smooth_min(_smooth_min(skull, jaw, 0.2), chin, 0.3)
    relief = (
        p.cheek * bump((side - 0.38) / 0.26, (y - nose_y - 0.08) / 0.3)
        + p.brow_ridge * bump(x / 0.6, (y - p.eye_height - 0.15) / 0.13)
        - 0.05 * bump((side - p.eye_spacing) / 0.22, (y - p.eye_height) / 0.15)
        + 0.05 * bump(x / (p.mouth_width + 0.08), (y - mouth_y + 0.5 * drop) / 0.15)
    )
    head = head - jnp.where(z > 0.0, relief, 0.0)
    tip = (nose_y + 0.05, 0.72 + p.nose_projection)
    nose = _rod(x, y, z, (p.eye_height + 0.04, 0.74), tip, p.nose_bridge, 0.08)
    wing = ellipsoid(
        side - 0.75 * p.nose_width,
        y - nose_y - 0.01,
        z - tip[1] + 0.1,
        0.5 * p.nose_width,
        0.06,
        0.12,
    )
    head = _smooth_min(head, _smooth_min(nose, wing, 0.06), 0.1)
    ear = ellipsoid(
        side - p.head_width - 0.02, y - p.eye_height + 0.1, z + 0.05, 0.07, p.ear_size, 0.12
    )
    neck = jnp.sqrt(x * x + jnp.square(z + 0.2) + 1e-9) - p.neck_width
    return _smooth_min(jnp.minimum(head, ear), jnp.maximum(neck, y + 0.4), 0.15)


def hair_distance(x: jax.Array, y: jax.Array, z: jax.Array, identity: Identity) -> jax.Array:
    """Distance to the hair: a cap, and what hangs behind the neck."""
    p, volume = identity, identity.hair_volume
    cap = ellipsoid(
        x, y - 0.24, z + 0.1, p.head_width + 0.7 * volume, p.head_height + volume, 0.94 + volume
    )
    # The hairline: high in front, down in front of the ears, to the nape behind.
    line = p.hair_line - 0.35 * p.hair_peak * bump((x - 0.3 * p.hair_parting) / 0.5)
    cut = line - y - 1.5 * jnp.maximum(0.42 - z, 0.0) * (0.6 + jnp.abs(x))
    cap = jnp.maximum(cap, 0.7 * cut)
    length = jnp.maximum(p.hair_length, 0.0)
    width = p.head_width + 0.6 * volume + 0.16 * length
    hang = ellipsoid(x, y + 0.2 * length, z + 0.38, width, 0.55 + 0.9 * length, 0.42)
    hang = jnp.where(p.hair_length > 0.0, hang, 1.0)
    curls = wave(2.7 * x + 0.8 * z) * wave(2.6 * y + 0.5 * x)
    return _smooth_min(cap, hang, 0.15) - 0.035 * jnp.maximum(p.hair_curl, 0.0) * curls


def rotation(nuisance: Nuisance) -> jax.Array:
    """The matrix [3, 3] from head to camera coordinates: yaw first, then pitch, then roll."""
    cy, sy = jnp.cos(nuisance.yaw), jnp.sin(nuisance.yaw)
    cp, sp = jnp.cos(nuisance.pitch), jnp.sin(nuisance.pitch)
    cr, sr = jnp.cos(nuisance.roll), jnp.sin(nuisance.roll)
    return jnp.array(
        [
            [cr * cy + sr * sp * sy, -sr * cp, cr * sy - sr * sp * cy],
            [sr * cy - cr * sp * sy, cr * cp, sr * sy + cr * sp * cy],
            [-cp * sy, -sp, cp * cy],
        ]
    )


class Surface(NamedTuple):
    """Where the rays through the pixels end, one value per ray."""

    position: Point  # head coordinates
    normal: Point  # camera coordinates, unit length
    depth: jax.Array  # towards the camera
    distance: jax.Array  # how near the ray came; about 0 where it met the surface


def trace(
    field: Callable[..., jax.Array], right: jax.Array, up: jax.Array, turn: jax.Array
) -> Surface:
    """Sends a ray along the camera's axis through each point (`right`, `up`), in head units.

    `field` is the distance at (x, y, z) in head coordinates, `turn` the head's rotation [3, 3].
    """

    def point(depth: jax.Array) -> Point:
        x, y, z = (right * turn[0, i] + up * turn[1, i] + depth * turn[2, i] for i in range(3))
        return x, y, z

    def march(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        depth, nearest = carry
        distance = field(*point(depth))
        # The distances are underestimates: a longer stride converges sooner.
        return depth - 1.25 * distance, jnp.minimum(nearest, distance)

    start = jnp.sqrt(jnp.maximum(1.5 - right * right - up * up, 0.0))
    depth, nearest = jax.lax.fori_loop(0, _MARCH_STEPS, march, (start, jnp.ones_like(start)))
    x, y, z = point(depth)

    # The field's slope from the corners of a tetrahedron; in a loop, so that it compiles once.
    corners = jnp.array([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])

    def differ(i: jax.Array, slopes: Point) -> Point:
        dx, dy, dz = corners[i]
        value = field(x + 0.01 * dx, y + 0.01 * dy, z + 0.01 * dz)
        return slopes[0] + dx * value, slopes[1] + dy * value, slopes[2] + dz * value

    sx, sy, sz = jax.lax.fori_loop(0, 4, differ, (jnp.zeros_like(x),) * 3)
    unit = jax.lax.rsqrt(sx * sx + sy * sy + sz * sz + 1e-12)
    nx, ny, nz = ((turn[i, 0] * sx + turn[i, 1] * sy + turn[i, 2] * sz) * unit for i in range(3))
    return Surface((x, y, z), (nx, ny, nz), depth, nearest)
