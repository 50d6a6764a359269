"""What a synthetic face is made of: the person (`Identity`) and the photograph (`Nuisance`).

Lengths are in head units: the skull is about 2 high, x points to the right of the image, y up
and z towards the camera. Angles are in radians. Everything is a scalar, so a batch of faces is
the same NamedTuple with a leading axis, made by `jax.vmap`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Identity(NamedTuple):
    """A person: float32 scalars that every image of them shares."""

    head_width: jax.Array
    head_height: jax.Array
    jaw_width: jax.Array
    chin_drop: jax.Array
    chin_width: jax.Array
    cheek: jax.Array
    brow_ridge: jax.Array
    neck_width: jax.Array
    ear_size: jax.Array
    eye_spacing: jax.Array
    eye_height: jax.Array
    eye_width: jax.Array
    eye_opening: jax.Array
    eye_tilt: jax.Array
    eye_color: jax.Array
    brow_thickness: jax.Array
    brow_height: jax.Array
    brow_angle: jax.Array
    brow_arch: jax.Array
    nose_length: jax.Array
    nose_width: jax.Array
    nose_bridge: jax.Array
    nose_projection: jax.Array
    mouth_gap: jax.Array  # from nose to mouth
    mouth_width: jax.Array
    upper_lip: jax.Array
    lower_lip: jax.Array
    lip_color: jax.Array
    skin_tone: jax.Array
    skin_hue: jax.Array
    hair_color: jax.Array
    hair_volume: jax.Array
    hair_line: jax.Array
    hair_peak: jax.Array  # above 0 a widow's peak, below 0 a fringe that hangs in the middle
    hair_parting: jax.Array
    hair_length: jax.Array  # at most 0: short
    hair_curl: jax.Array
    beard: jax.Array  # opacity; at most 0: none
    moustache: jax.Array
    age: jax.Array  # depth of folds and lines
    freckles: jax.Array
    mole_x: jax.Array
    mole_y: jax.Array


_IDENTITY_RANGES: dict[str, tuple[float, float]] = {
    "head_width": (0.66, 0.84),
    "head_height": (0.84, 1.0),
    "jaw_width": (0.44, 0.68),
    "chin_drop": (0.72, 0.98),
    "chin_width": (0.1, 0.3),
    "cheek": (-0.02, 0.07),
    "brow_ridge": (0.0, 0.05),
    "neck_width": (0.3, 0.5),
    "ear_size": (0.1, 0.24),
    "eye_spacing": (0.24, 0.37),
    "eye_height": (0.0, 0.16),
    "eye_width": (0.12, 0.19),
    "eye_opening": (0.04, 0.095),
    "eye_tilt": (-0.22, 0.3),
    "eye_color": (0.0, 1.0),
    "brow_thickness": (0.014, 0.06),
    "brow_height": (0.12, 0.22),
    "brow_angle": (-0.3, 0.3),
    "brow_arch": (0.0, 0.09),
    "nose_length": (0.3, 0.5),
    "nose_width": (0.07, 0.16),
    "nose_bridge": (0.04, 0.1),
    "nose_projection": (0.08, 0.26),
    "mouth_gap": (0.15, 0.28),
    "mouth_width": (0.2, 0.35),
    "upper_lip": (0.015, 0.07),
    "lower_lip": (0.03, 0.1),
    "lip_color": (0.0, 1.0),
    "skin_tone": (0.0, 1.0),
    "skin_hue": (-1.0, 1.0),
    "hair_color": (0.0, 1.0),
    "hair_volume": (0.03, 0.2),
    "hair_line": (0.42, 0.86),
    "hair_peak": (-0.6, 0.5),
    "hair_parting": (-0.6, 0.6),
    "hair_length": (-1.0, 1.0),
    "hair_curl": (-0.5, 1.0),
    "beard": (-1.0, 1.0),
    "moustache": (-1.0, 1.0),
    "age": (0.0, 1.0),
    "freckles": (-1.5, 1.0),
    "mole_x": (-0.5, 0.5),
    "mole_y": (-0.6, 0.6),
}


class Nuisance(NamedTuple):
    """Everything of a photograph that says nothing about the person.

    Float32 scalars, but `key`, a typed PRNG key that draws the sensor's noise, and the colours,
    float32 [3]. At severity 0 it is the passport photograph, whatever the key.
    """

    yaw: jax.Array
    pitch: jax.Array
    roll: jax.Array
    scale: jax.Array  # image half-widths in a head unit
    shift_x: jax.Array
    shift_y: jax.Array
    light_x: jax.Array
    light_y: jax.Array
    ambient: jax.Array
    exposure: jax.Array
    light_color: jax.Array
    mouth_open: jax.Array
    smile: jax.Array
    brow_raise: jax.Array
    eye_close: jax.Array
    gaze: jax.Array
    glasses: jax.Array  # opacity of the frames
    sunglasses: jax.Array  # opacity of the lenses
    bar: jax.Array  # opacity of a bar across the image
    hand: jax.Array  # opacity of a hand in front of the face
    occluder_x: jax.Array
    occluder_y: jax.Array
    occluder_angle: jax.Array
    occluder_size: jax.Array
    occluder_color: jax.Array
    background: jax.Array
    background_contrast: jax.Array
    clothes: jax.Array
    blur: jax.Array  # standard deviation, as a share of the image's width
    noise: jax.Array  # standard deviation, where the image's range is 1
    key: jax.Array


def draw_identity(key: jax.Array) -> Identity:
    """A person, drawn from a PRNG key. `jax.vmap` it for several."""
    low, high = jnp.array([_IDENTITY_RANGES[name] for name in Identity._fields]).T
    drawn = Identity(*(low + (high - low) * jax.random.uniform(key, low.shape)))
    # Beards go with short hair here: the two together hide what else tells people apart.
    bearded = drawn.hair_length < 0.2
    return drawn._replace(
        beard=jnp.where(bearded, drawn.beard, -1.0),
        moustache=jnp.where(bearded, drawn.moustache, -1.0),
    )


def draw_nuisance(key: jax.Array, severity: jax.Array) -> Nuisance:
    """The photograph of severity in [0, 1], float32 scalar, drawn from a PRNG key.

    Each disturbance is uniform up to a bound that is proportional to the severity, and an
    occlusion appears with probability 0.6 x severity. Severity 0 gives the same passport
    photograph for every key, and at one key the disturbances grow with the severity.
    """
    draw_key, noise_key = jax.random.split(key)
    drawn = jax.random.uniform(draw_key, (36,), minval=-1.0)
    # What does not grow: where the occluder is, which one it is, whether there are glasses.
    place, kind, glasses = drawn[:4], jnp.abs(drawn[4]), jnp.abs(drawn[5])
    drawn = jnp.asarray(severity, jnp.float32) * drawn[6:]
    pose, light, face, sensor = drawn[:6], drawn[6:10], drawn[10:15], jnp.abs(drawn[15:18])
    tint, cover, background, clothes = drawn[18:30].reshape(4, 3)

    def chosen(low: float, high: float) -> jax.Array:
        return ((kind >= low * severity) & (kind < high * severity)).astype(jnp.float32)

    return Nuisance(
        yaw=0.8 * pose[0],
        pitch=0.4 * pose[1],
        roll=0.2 * pose[2],  # the last four small: what aligning a photograph leaves
        scale=0.72 * jnp.exp(0.12 * pose[3]),
        shift_x=0.08 * pose[4],
        shift_y=0.08 * pose[5],
        light_x=0.15 + 1.2 * light[0],
        light_y=0.35 + 0.8 * light[1],
        ambient=0.5 + 0.25 * light[2],
        exposure=jnp.exp(0.5 * light[3]),
        light_color=1.0 + 0.22 * tint,
        mouth_open=jnp.maximum(0.12 * face[0], 0.0),
        smile=0.1 * face[1],
        brow_raise=0.07 * face[2],
        eye_close=jnp.maximum(face[3], 0.0),
        gaze=0.05 * face[4],
        glasses=(glasses < 0.3 * severity).astype(jnp.float32),
        sunglasses=chosen(0.0, 0.15),
        bar=chosen(0.15, 0.4),
        hand=chosen(0.4, 0.6),
        occluder_x=0.5 * place[0],
        occluder_y=0.6 * place[1],
        occluder_angle=1.6 * place[2],
        occluder_size=0.16 + 0.06 * place[3],
        occluder_color=0.5 + 0.5 * cover,
        background=0.62 + 0.4 * background,
        background_contrast=0.35 * severity * kind,
        clothes=0.4 + 0.4 * clothes,
        blur=0.03 * sensor[0] * sensor[2],
        noise=0.08 * sensor[1],
        key=noise_key,
    )
