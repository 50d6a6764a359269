"""DeepID2 on synthetic faces, a small network, a CPU.

    python train.py --config=configs/deepid2.py

Unseen synthetic people: accuracy 91.8 % (90.9-92.6; untrained 71.0), TAR at FAR 1e-2 0.676,
at 1e-3 0.521. One run, seed 0.
"""

from configs import default
from facejax.training.config import Config, Loss


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = default.get_config(argument)
    # Raw features of length 11 or so.
    config.loss = Loss(name="deepid2", margin=10.0)
    return config
