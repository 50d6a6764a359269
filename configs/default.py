"""The embedded default: synthetic faces, a small network, ArcFace, a CPU.

python train.py
"""

from facejax.training.config import Config


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    del argument
    config = Config(batch_size=64, epochs=12.0)
    config.data.image_size = 64
    config.data.identities = 400
    config.data.images_per_identity = 16
    config.augment.shift = 3
    config.model.name = "iresnet10"
    config.model.width = 0.25
    config.model.embedding_size = 128
    config.loss.scale = 32.0
    config.loss.margin = 0.3
    config.optimizer.schedule = "cosine"
    config.evaluation.every = 400
    config.checkpoint.every = 400
    return config
