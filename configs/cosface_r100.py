"""CosFace, IResNet-100, Glint360K (360,232 identities, 17 M images).

    python train.py --config=configs/cosface_r100.py --config.data.path=FOLDER \
        --config.evaluation.pairs=PAIRS --config.evaluation.images=FOLDER

Not run here: no accelerator and no such data were at hand. InsightFace reports 97.55 % TAR at
FAR 1e-4 on IJB-C for this recipe in PyTorch.
"""

from configs import cosface_r50
from facejax.training.config import Config


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = cosface_r50.get_config(argument)
    config.model.name = "iresnet100"
    return config
