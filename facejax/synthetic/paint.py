"""What is painted on a synthetic head, and what hides it: layers of a colour and an opacity.

Coordinates are those of `person`; `pixel` is a pixel's width in the same unit, which is how
soft an edge is.
"""

import jax
import jax.numpy as jnp

from facejax.synthetic.person import Identity, Nuisance
from facejax.synthetic.shape import bump, nose_and_mouth, wave

# A colour [3], and its opacity over what lies beneath, [S, S].
Layer = tuple[jax.Array, jax.Array]
Palette = tuple[tuple[float, float, float], ...]

_SKIN: Palette = (
    (1.0, 0.83, 0.72),
    (0.93, 0.7, 0.54),
    (0.74, 0.5, 0.34),
    (0.5, 0.32, 0.21),
    (0.3, 0.19, 0.13),
)
_HAIR: Palette = (
    (0.06, 0.05, 0.06),
    (0.16, 0.1, 0.07),
    (0.34, 0.21, 0.12),
    (0.5, 0.2, 0.09),
    (0.72, 0.52, 0.27),
    (0.86, 0.75, 0.5),
    (0.66, 0.66, 0.67),
)
_EYES: Palette = (
    (0.14, 0.08, 0.05),
    (0.36, 0.22, 0.1),
    (0.36, 0.42, 0.2),
    (0.25, 0.48, 0.72),
    (0.5, 0.58, 0.62),
)
_LIPS: Palette = ((0.62, 0.36, 0.3), (0.78, 0.4, 0.38), (0.76, 0.2, 0.25))


def _pick(palette: Palette, place: jax.Array) -> jax.Array:
    """The colour [3] at `place` in [0, 1] along a palette, interpolated."""
    steps = jnp.arange(len(palette), dtype=place.dtype)
    weights = jnp.maximum(1.0 - jnp.abs(place * (len(palette) - 1) - steps), 0.0)
    return (weights[:, None] * jnp.array(palette)).sum(0)


def _ramp(x: jax.Array, low: float | jax.Array, high: float | jax.Array) -> jax.Array:
    """0 up to `low`, 1 from `high` on, smooth between."""
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _length(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sqrt(x * x + y * y + 1e-9)


def edge(distance: jax.Array, pixel: jax.Array | float) -> jax.Array:
    """The opacity of a shape, from the signed distance to it."""
    return jnp.clip(0.5 - distance / pixel, 0.0, 1.0)


def skin_color(identity: Identity) -> jax.Array:
    """The colour [3] of the bare skin."""
    tint = identity.skin_hue * jnp.array([0.02, -0.015, -0.035])
    return _pick(_SKIN, identity.skin_tone) + tint


def hair_color(identity: Identity) -> jax.Array:
    """The colour [3] of the hair."""
    return _pick(_HAIR, identity.hair_color)


def _complexion(
    x: jax.Array, y: jax.Array, pixel: jax.Array, identity: Identity, nuisance: Nuisance
) -> list[Layer]:
    """Blush, freckles, folds, the sockets' shade, a mole."""
    p, side = identity, jnp.abs(x)
    nose_y, mouth_y = nose_and_mouth(p)
    skin = skin_color(p)
    blush = bump((side - 0.4) / 0.3, (y - nose_y - 0.06) / 0.26)
    spots = wave(5.0 * x + 1.4 * y) * wave(5.9 * y - 1.8 * x + 6.0 * p.mole_x)
    freckles = bump(x / 0.7, (y - nose_y - 0.12) / 0.4) * _ramp(spots, 0.35, 0.8)
    fold_x = 0.13 + 0.5 * (nose_y + 0.05 - y) + 0.25 * jnp.maximum(nuisance.smile, 0.0)
    fold = bump((side - fold_x) / 0.035) * _ramp(y, mouth_y - 0.08, mouth_y)
    fold = fold * _ramp(nose_y - y, -0.06, 0.0)
    line = bump((9.0 * y - jnp.round(9.0 * y)) / 0.18)
    line = line * bump(x / 0.45, (y - p.eye_height - 0.42) / 0.16)
    bags = bump((side - p.eye_spacing) / 0.15, (y - p.eye_height + 0.1) / 0.05)
    socket = bump((side - p.eye_spacing + 0.03) / 0.25, (y - p.eye_height - 0.06) / 0.13)
    mole = _length(x - p.mole_x, y - p.mole_y) - 0.026
    return [
        (skin * jnp.array([1.0, 0.68, 0.66]), 0.5 * blush),
        (skin * jnp.array([0.66, 0.5, 0.42]), 0.7 * jnp.maximum(p.freckles, 0.0) * freckles),
        (0.55 * skin, p.age * jnp.clip(0.6 * fold + 0.4 * line + 0.45 * bags, 0.0, 1.0)),
        (0.55 * skin, 0.4 * socket),
        (0.22 * skin, edge(mole, pixel)),
    ]


def _mouth(
    x: jax.Array, y: jax.Array, pixel: jax.Array, identity: Identity, nuisance: Nuisance
) -> list[Layer]:
    """Beard and moustache, lips, and what an open mouth shows."""
    p, n, side = identity, nuisance, jnp.abs(x)
    nose_y, mouth_y = nose_and_mouth(p)
    skin, hair = skin_color(p), hair_color(p)
    fuzz = 0.9 + 0.1 * wave(7.0 * x + 2.0 * y) * wave(5.0 * y - 3.0 * x)
    beard = _ramp(mouth_y - 0.04 + 0.75 * side * side - y, -0.04, 0.08) * fuzz
    beard = beard * _ramp(y + p.chin_drop + n.mouth_open, -0.12, -0.04)
    moustache = bump(x / (p.mouth_width + 0.05), (y - mouth_y - 0.09 + 0.5 * x * x) / 0.09)
    moustache = _ramp(moustache, 0.1, 0.4) * fuzz

    across = x / p.mouth_width
    arc = jnp.maximum(1.0 - across * across, 0.0)
    line = y - mouth_y - n.smile * (across * across - 0.4)
    gap = n.mouth_open * arc
    upper = p.upper_lip * arc * (1.0 - 0.35 * bump(x / 0.07)) + 0.004
    lips = jnp.maximum(line - upper, -line - gap - p.lower_lip * arc)
    lip_color = 0.5 * _pick(_LIPS, p.lip_color) + 0.5 * skin * jnp.array([0.9, 0.6, 0.58])
    inside = jnp.maximum(jnp.abs(line + 0.5 * gap) - 0.5 * gap - 0.008, side - p.mouth_width)
    inside = edge(inside, pixel)
    teeth = _ramp(line, -0.5 * n.mouth_open - 0.02, -0.5 * n.mouth_open)
    chin = bump(x / (0.8 * p.mouth_width), (line + gap + p.lower_lip + 0.05) / 0.04)
    nostril = bump(
        (side - 0.55 * p.nose_width) / (0.4 * p.nose_width + 0.01), (y - nose_y + 0.045) / 0.035
    )
    return [
        (hair, jnp.clip(1.4 * p.beard, 0.0, 0.92) * beard),
        (hair, jnp.clip(1.6 * p.moustache, 0.0, 0.95) * moustache),
        (lip_color, edge(jnp.maximum(lips, side - p.mouth_width), pixel)),
        (jnp.array([0.25, 0.08, 0.08]), inside),
        (jnp.array([0.93, 0.9, 0.85]), inside * teeth * _ramp(n.mouth_open, 0.02, 0.04)),
        (0.55 * skin, 0.35 * chin),
        (0.2 * skin, _ramp(nostril, 0.2, 0.7)),
    ]


def _eyes(
    x: jax.Array, y: jax.Array, pixel: jax.Array, identity: Identity, nuisance: Nuisance
) -> list[Layer]:
    """Almonds with lids, lashes, irises and a glint, and the brows above."""
    p, n, skin = identity, nuisance, skin_color(identity)
    outward = jnp.abs(x) - p.eye_spacing
    up = y - p.eye_height - p.eye_tilt * outward
    along = outward / p.eye_width
    lid = p.eye_opening * (1.0 - n.eye_close)
    almond = jnp.abs(up + 0.3 * (p.eye_opening - lid)) - lid * (1.0 - along * along)
    rim = edge(jnp.maximum(almond - 0.016, jnp.abs(along) - 1.0), pixel)
    white = edge(almond, pixel)
    look = x - jnp.sign(x) * p.eye_spacing - n.gaze
    iris, radius = _length(look, up), 0.045 + 0.25 * p.eye_opening
    glint = _length(look - 0.02, up - 0.025) - 0.014

    place = (outward + 0.02) / (1.25 * p.eye_width)
    center = p.brow_height + n.brow_raise - 0.04 + p.brow_angle * outward
    center = center + p.brow_arch * (1.0 - place * place)
    stroke = p.brow_thickness * (1.0 - 0.55 * _ramp(place, -0.3, 1.0))
    brow = jnp.abs(y - p.eye_height - center) - stroke
    brow = jnp.maximum(brow, 1.25 * p.eye_width * (jnp.abs(place) - 1.0))
    eye_color = _pick(_EYES, p.eye_color)
    return [
        (0.33 * skin, 0.6 * rim),
        (0.14 * skin, rim * _ramp(up, -0.04, 0.0)),
        (jnp.full((3,), 0.92), white),
        (0.35 * eye_color, white * edge(iris - radius, pixel)),
        (eye_color, white * edge(iris - 0.8 * radius, pixel)),
        (jnp.full((3,), 0.03), white * edge(iris - 0.42 * radius, pixel)),
        (jnp.full((3,), 1.0), white * edge(glint, pixel)),
        (jnp.full((3,), 0.3), 0.5 * white * _ramp(up, 0.0, p.eye_opening)),
        (0.75 * hair_color(p) + 0.1 * skin, 0.92 * edge(brow, pixel)),
    ]


def _glasses(
    x: jax.Array, y: jax.Array, pixel: jax.Array, identity: Identity, nuisance: Nuisance
) -> list[Layer]:
    p, n, side = identity, nuisance, jnp.abs(x)
    height = y - p.eye_height
    lens = jnp.maximum(jnp.abs(side - p.eye_spacing) - 0.2, jnp.abs(height + 0.02) - 0.15)
    bridge = jnp.maximum(jnp.abs(height - 0.04) - 0.02, side - p.eye_spacing)
    arm = jnp.maximum(jnp.abs(height - 0.06) - 0.02, p.eye_spacing + 0.2 - side)
    rims = jnp.minimum(jnp.abs(lens) - 0.018, jnp.minimum(jnp.maximum(bridge, -lens), arm))
    return [
        (jnp.full((3,), 0.07), n.sunglasses * edge(lens, pixel)),
        (0.4 * n.occluder_color, jnp.maximum(n.glasses, n.sunglasses) * edge(rims, pixel)),
    ]


def face_layers(
    x: jax.Array,
    y: jax.Array,
    z: jax.Array,
    pixel: jax.Array,
    identity: Identity,
    nuisance: Nuisance,
) -> list[Layer]:
    """Everything on the bare skin at (x, y, z) [S, S], undermost first."""
    front = jnp.where(z > 0.05, 1.0, 0.0)
    parts = (_complexion, _mouth, _eyes, _glasses)
    layers = [layer for part in parts for layer in part(x, y, pixel, identity, nuisance)]
    return [(color, opacity * front) for color, opacity in layers]


def strands(x: jax.Array, y: jax.Array, identity: Identity) -> Layer:
    """The shade between the strands of hair."""
    waves = wave(4.2 * (x - identity.hair_parting) + wave(0.8 * y)) * wave(0.65 * y + 0.5 * x)
    return 0.6 * hair_color(identity), 0.5 - 0.5 * waves


def occluder_layers(u: jax.Array, v: jax.Array, pixel: float, nuisance: Nuisance) -> list[Layer]:
    """A bar and a hand in front of everything; `u` right and `v` up, in [-1, 1] of the image."""
    n, size = nuisance, nuisance.occluder_size
    c, s = jnp.cos(n.occluder_angle), jnp.sin(n.occluder_angle)
    along = c * (u - n.occluder_x) + s * (v - n.occluder_y)
    across = c * (v - n.occluder_y) - s * (u - n.occluder_x)
    bar = n.bar * edge(jnp.abs(across) - size, pixel)

    # Four fingers side by side, a palm and a wrist.
    between = across / size - jnp.floor(across / size) - 0.5
    finger = jnp.maximum((jnp.abs(between) - 0.46) * size, jnp.abs(across) - 2.0 * size)
    finger = jnp.maximum(finger, jnp.maximum(-along, along - 0.75 + 4.0 * across * across))
    palm = _length(along + 0.2, across) - 2.1 * size
    wrist = jnp.maximum(jnp.abs(across) - 1.5 * size, along + 0.2)
    hand = n.hand * edge(jnp.minimum(finger, jnp.minimum(palm, wrist)), pixel)
    color = _pick(_SKIN, jnp.clip(n.occluder_color[0], 0.0, 1.0))
    gaps = jnp.where(along > 0.0, 4.0 * between * between, 0.15)
    return [
        (n.occluder_color, bar),
        (0.6 * n.occluder_color, bar * (0.5 + 0.5 * wave(6.0 * along))),
        (color, hand),
        (0.4 * color, hand * gaps),
    ]
