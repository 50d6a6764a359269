"""ArcFace, MobileFaceNet, MS1MV3 (93,431 identities, 5.2 M images).

    python train.py --config=configs/arcface_mobilefacenet.py --config.data.path=FOLDER \
        --config.evaluation.pairs=PAIRS --config.evaluation.images=FOLDER

Not run here: no accelerator and no such data were at hand. InsightFace reports 94.23 % TAR at
FAR 1e-4 on IJB-C for a larger MobileFaceNet (0.45 GFLOPs) in PyTorch.
"""

from configs import arcface_r50
from facejax.training.config import Config


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    config = arcface_r50.get_config(argument)
    config.model.name = "mobilefacenet"
    return config
