"""Draws docs/figures/synthetic_faces.png: a row for each synthetic person, severity from 0 to 1.

    python docs/figures/synthetic_faces.py [--output FOLDER] [--seed 3]

About ten seconds.
"""

import argparse
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from figures import HERE
from PIL import Image

from facejax.compilation import jit
from facejax.synthetic.render import draw_identity, draw_nuisance, render

ROWS, COLUMNS, SIZE, TITLE_HEIGHT = 8, 10, 96, 26
TITLE = "facejax: SYNTHETIC faces, one person a row, severity 0 (left) to 1 (right)"


def main() -> None:
    """Renders the sheet and writes it as a PNG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()

    def row(key: jax.Array, severities: jax.Array) -> jax.Array:
        person, *shots = jax.random.split(key, 1 + COLUMNS)
        nuisance = jax.vmap(draw_nuisance)(jnp.stack(shots), severities)
        photograph = jax.vmap(lambda n: render(draw_identity(person), n, image_size=SIZE))
        return photograph(nuisance)

    photograph_row = jit(row)
    severities = np.linspace(0, 1, COLUMNS, dtype=np.float32)
    keys = jax.random.split(jax.random.key(arguments.seed), ROWS)
    rows = [np.concatenate(np.asarray(photograph_row(key, severities)), axis=1) for key in keys]
    title = np.full((TITLE_HEIGHT, COLUMNS * SIZE, 3), 255, np.uint8)
    cv2.putText(title, TITLE, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    sheet = np.concatenate([title, *rows])
    # A palette keeps the file small: the noise does not compress.
    arguments.output.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(sheet).quantize(256, dither=Image.Dither.NONE)
    picture.save(arguments.output / "synthetic_faces.png")


if __name__ == "__main__":
    main()
