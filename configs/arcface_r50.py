"""ArcFace, IResNet-50, MS1MV3 (93,431 identities, 5.2 M images): the recipe InsightFace publishes.

    python train.py --config=configs/arcface_r50.py --config.data.path=FOLDER \
        --config.evaluation.pairs=PAIRS --config.evaluation.images=FOLDER

Not run here: no accelerator and no such data were at hand. InsightFace reports 96.37 % TAR at
FAR 1e-4 on IJB-C for this recipe in PyTorch.
"""

from facejax.training.config import Config


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    del argument
    config = Config(batch_size=1024, epochs=20.0)
    config.data.path = "data/ms1mv3"  # identities, aligned to 112x112; or a built dataset
    config.augment.preset = "insightface"  # the flip alone
    config.model.name = "iresnet50"
    config.model.embedding_size = 512
    config.model.dtype = "bfloat16"  # logits stay float32
    config.loss.name = "arcface"
    config.loss.scale = 64.0
    config.loss.margin = 0.5
    config.optimizer.learning_rate = 0.2  # 0.1 for each 512 rows
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "polynomial"
    config.optimizer.warmup = 0.05
    config.checkpoint.every = 5000
    config.evaluation.every = 5000
    return config
