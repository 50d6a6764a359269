"""FaceNet (semi-hard; 8 identities x 4 images) on synthetic faces, a small network, a CPU.

    python train.py --config=configs/facenet.py

Unseen synthetic people: accuracy 91.9 % (91.0-92.7; untrained 71.0), TAR at FAR 1e-2 0.592,
at 1e-3 0.345. One run, seed 0; 124 core-seconds.
"""

from configs import default
from facejax.training.config import Config, Loss


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = default.get_config(argument)
    config.loss = Loss(name="facenet")
    config.data.per_identity = 4
    return config
