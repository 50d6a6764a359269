"""Draws docs/figures/augmentation.png: a row for each change of synthetic faces, by itself.

    python docs/figures/augmentation.py [--output FOLDER] [--seed 3]

About half a minute.
"""

import argparse
import functools
import pathlib
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from figures import HERE
from PIL import Image

from facejax.compilation import jit
from facejax.data import augment
from facejax.synthetic.render import draw_identity, draw_nuisance, render

PEOPLE, SIZE, MARGIN, TITLE_HEIGHT = 8, 60, 150, 26
RENDERED, TOP, LEFT = 112, 22, 26  # the part in which eyes and mouth lie as in an aligned crop
TITLE = "facejax: SYNTHETIC faces, each change with a probability of 1"
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "crop_in_place": {"crop_in_place": 1.0, "crop_scale": (0.2, 1.0)},
    "low_resolution": {"low_resolution": 1.0, "resampling": "opencv"},
    "color_jitter": {"color_jitter": 1.0},
    "blur": {"blur": 1.0},
    "hue": {"hue": 1.0},
    "gray": {"gray": 1.0},
    "erasing": {"erasing": 1.0, "erasing_scale": (0.02, 0.4)},
    "face_mask": {"face_mask": 1.0},
}


def main() -> None:
    """Renders the faces, changes them and writes the sheet as a PNG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()

    def photograph(key: jax.Array) -> jax.Array:
        person, shot = jax.random.split(key)
        nuisance = draw_nuisance(shot, jnp.float32(0.1))
        face = render(draw_identity(person), nuisance, image_size=RENDERED)
        return face[TOP : TOP + SIZE, LEFT : LEFT + SIZE]

    keys = jax.random.split(jax.random.key(arguments.seed), PEOPLE)
    faces = jit(jax.vmap(photograph))(keys)
    rows = []
    for name, change in CHANGES.items():
        views = np.asarray(jit(functools.partial(augment, flip=0.0, **change))(keys, faces))
        pixels = np.round((views + 1.0) * 127.5).astype(np.uint8)
        label = np.full((SIZE, MARGIN, 3), 255, np.uint8)
        write(label, name, SIZE // 2 + 4)
        rows.append(np.concatenate([label, *pixels], axis=1))
    title = np.full((TITLE_HEIGHT, MARGIN + PEOPLE * SIZE, 3), 255, np.uint8)
    write(title, TITLE, 18)
    sheet = np.concatenate([title, *rows])
    arguments.output.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(sheet).quantize(256, dither=Image.Dither.NONE)
    picture.save(arguments.output / "augmentation.png", optimize=True)


def write(image: np.ndarray, text: str, baseline: int) -> None:
    """Writes black letters from the left edge on."""
    font, black = cv2.FONT_HERSHEY_SIMPLEX, (0, 0, 0)
    cv2.putText(image, text, (8, baseline), font, 0.55, black, 1, cv2.LINE_AA)


if __name__ == "__main__":
    main()
