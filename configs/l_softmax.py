"""L-Softmax, annealed, on synthetic faces, a small network, a CPU.

    python train.py --config=configs/l_softmax.py

Unseen synthetic people: accuracy 94.2 % (93.4-94.9; untrained 71.0), TAR at FAR 1e-2 0.796,
at 1e-3 0.571. One run, seed 0; 79 s on two CPU cores.
"""

from configs import default
from facejax.training.config import Config, Loss


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = default.get_config(argument)
    # The published schedule takes 10,000 steps and more.
    config.loss = Loss(
        name="l_softmax",
        margin=2.0,
        anneal_base=100.0,
        anneal_gamma=0.1,
        anneal_power=1.0,
        anneal_minimum=1.0,
    )
    return config
