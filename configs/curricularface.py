"""CurricularFace on synthetic faces, a small network, a CPU.

    python train.py --config=configs/curricularface.py

Unseen synthetic people: accuracy 90.2 % (89.2-91.1; untrained 71.0), TAR at FAR 1e-2 0.680,
at 1e-3 0.471. One run, seed 0; 98 s on two CPU cores.
"""

from configs import default
from facejax.training.config import Config, Loss


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = default.get_config(argument)
    # Few classes and a short run.
    config.loss = Loss(name="curricularface", scale=24.0, margin=0.2)
    return config
