"""Draws docs/figures/recognition.png: names for the faces of a SYNTHETIC group photograph.

    python docs/figures/recognition.py [--output FOLDER]

Four of six rendered people are enrolled, each with a passport photograph; then all six are named in
a group photograph with other light, pose and expression, by what `facejax[faces]` brings. Rendered
faces resemble each other: to SFace the people chosen here by up to 0.55, real people rarely by more
than 0.37. Hence a threshold of its own. Half a minute.
"""

import argparse
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from figures import HERE
from PIL import Image

from facejax import recognition
from facejax.compilation import jit
from facejax.synthetic.render import draw_identity, draw_nuisance, render

NAMES = ("Ann", "Ben", "Cleo", "Dan")
PEOPLE = (24, 9, 8, 6, 7, 21)  # seeds: of 40 those who look least alike to SFace
SIZE, SEVERITY, THRESHOLD, WALL = 192, 0.3, 0.7, (188, 182, 172)


def photograph(seed: int, severity: float) -> np.ndarray:
    """A face of each person, uint8 [6, SIZE, SIZE, 3]."""

    def one(person: jax.Array, shot: jax.Array) -> jax.Array:
        return render(
            draw_identity(person), draw_nuisance(shot, jnp.float32(severity)), image_size=SIZE
        )

    people, shots = (
        jnp.stack([jax.random.key(number) for number in numbers])
        for numbers in (PEOPLE, [seed + person for person in PEOPLE])
    )
    return np.asarray(jit(jax.vmap(one))(people, shots))


def main() -> None:
    """Enrolls, names, and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE)
    arguments = parser.parse_args()

    app = recognition.open("sface")
    group = np.full((2 * SIZE + 96, 3 * SIZE + 96, 3), WALL, np.uint8)
    for number, face in enumerate(photograph(seed=2000, severity=SEVERITY)):
        row, column = divmod(number, 3)
        y, x = 24 + row * (SIZE + 48), 24 + column * (SIZE + 24)
        group[y : y + SIZE, x : x + SIZE] = face
    with tempfile.TemporaryDirectory() as folder:
        gallery = recognition.Gallery(pathlib.Path(folder) / "people", recognizer=app)
        for name, face in zip(NAMES, photograph(seed=1000, severity=0.0), strict=False):
            gallery.enroll(name, face, duplicates="allow")
        faces = app.faces(group)
        matches = gallery.identify(faces, threshold=THRESHOLD)
        gallery.close()
    print(matches)
    drawn = recognition.draw_faces(
        group,
        np.stack([face.box for face in faces]),
        np.stack([face.landmarks for face in faces]),
        names=[match.name for match in matches],
        similarities=[match.similarity for match in matches],
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    # A palette keeps the file small: the noise does not compress.
    picture = Image.fromarray(drawn).quantize(256, dither=Image.Dither.NONE)
    picture.save(arguments.output / "recognition.png")


if __name__ == "__main__":
    main()
