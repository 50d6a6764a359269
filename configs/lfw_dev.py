"""CosFace on a folder of identities: LFW's View 1 development split, aligned, on a CPU.

    python train.py --config=configs/lfw_dev.py --config.data.path=FOLDER/train \
        --config.evaluation.pairs=FOLDER/pairs_test.txt --config.evaluation.images=FOLDER/test

9,525 images of 4,038 people, 36 epochs: 61 core-minutes on two CPU cores (73 minutes in all on a
shared machine; at the 173 images/s of its undisturbed end, 33). On the 1,000 development test
pairs, with nobody who is in training: accuracy 90.5 % (88.5-92.2; untrained 66.8), TAR at FAR 1e-2
0.692 (0.616-0.768).
"""

from facejax.training.config import Config


def get_config(argument: str | None = None) -> Config:
    """The recipe; it takes no argument."""
    del argument
    config = Config(batch_size=64, epochs=36.0)
    config.data.path = "data/lfw_dev/train"
    config.data.image_size = 64
    config.augment.flip = 0.5
    config.augment.shift = 3
    config.augment.crop = 0.5
    config.augment.crop_scale = (0.75, 1.0)
    config.augment.photometric = 0.5
    config.augment.erasing = 0.2
    config.model.name = "iresnet10"
    config.model.width = 0.25
    config.model.embedding_size = 256
    config.model.dropout = 0.2
    config.loss.name = "cosface"
    config.loss.scale = 32.0
    config.loss.margin = 0.3
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 2 / 36
    config.evaluation.pairs = "data/lfw_dev/pairs_test.txt"
    config.evaluation.images = "data/lfw_dev/test"
    config.evaluation.every = 600
    config.checkpoint.every = 600
    return config
