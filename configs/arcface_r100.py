"""ArcFace, IResNet-100, MS1MV3 (93,431 identities, 5.2 M images).

    python train.py --config=configs/arcface_r100.py --config.data.path=FOLDER \
        --config.evaluation.pairs=PAIRS --config.evaluation.images=FOLDER

Not run here: no accelerator and no such data were at hand. InsightFace reports 96.85 % TAR at
FAR 1e-4 on IJB-C for this recipe in PyTorch.
"""

from configs import arcface_r50
from facejax.training.config import Config


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = arcface_r50.get_config(argument)
    config.model.name = "iresnet100"
    return config
