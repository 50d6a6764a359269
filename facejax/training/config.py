"""Every knob of a training run: the only list of them.

`configs/*.py` build one `Config` each in `get_config(arg)`; the command line changes single fields,
as in `--config.optimizer.learning_rate=0.1`. Library functions never see a config.
"""

import dataclasses
from dataclasses import field


@dataclasses.dataclass
class Data:
    """Where the faces come from, and what the host does with them."""

    kind: str = "synthetic"  # synthetic (rendered), folder (of identities) or dataset (built)
    path: str = ""  # the folder of identities, or the dataset's directory
    cache: str = "~/.cache/facejax/datasets"  # datasets built, faces rendered
    image_size: int = 112  # height and width the network sees
    threads: int | None = None  # decoding threads; None: from the core count
    identities: int = 400  # synthetic: how many people
    images_per_identity: int = 16  # synthetic


@dataclasses.dataclass
class Augment:
    """Probabilities an image, unless said otherwise."""

    flip: float = 0.5  # mirrored
    shift: int = 0  # pixels: moved by up to so many, edges repeated
    crop: float = 0.0  # random resized crop
    crop_scale: tuple[float, ...] = (0.7, 1.0)  # bounds of the share of the area that a crop keeps
    photometric: float = 0.0  # brightness, contrast and saturation
    low_resolution: float = 0.0  # shrunk and enlarged again
    erasing: float = 0.0  # a rectangle erased


@dataclasses.dataclass
class Model:
    """The network from an image to an embedding."""

    name: str = "iresnet50"  # iresnet10/18/34/50/100/200 or mobilefacenet
    width: float = 1.0  # multiplies the channels
    embedding_size: int = 512
    dropout: float = 0.0  # before the last dense layer
    dtype: str = "float32"  # of the computation (bfloat16 on TPU and GPU); parameters are float32


@dataclasses.dataclass
class Loss:
    """The loss; None stands for the loss's own default."""

    name: str = "arcface"  # softmax, normface, cosface or arcface
    scale: float | None = None
    margin: float | None = None
    beyond_pi: str | None = None  # arcface: plain, linear, easy or saturate
    gradient: str | None = None  # arcface: exact or straight_through


@dataclasses.dataclass
class Optimizer:
    """The update, and its learning rate over the run."""

    name: str = "sgd"  # sgd or adamw
    learning_rate: float = 0.1  # at its peak
    momentum: float = 0.9  # sgd
    weight_decay: float = 5e-4  # on kernels and class weights only
    schedule: str = "polynomial"  # polynomial, cosine or constant, after the warm-up
    power: float = 2.0  # of the polynomial
    warmup: float = 0.05  # share of the steps in which the rate rises from 0
    clip_norm: float = 0.0  # largest norm of the gradient; 0: as it is
    accumulate: int = 1  # micro-batches a step


@dataclasses.dataclass
class Evaluation:
    """Verification during training; the identities are not in training."""

    every: int = 0  # steps between evaluations; 0: at the start and the end only
    pairs: str = ""  # a pair file; empty: synthetic identities, if the data is synthetic
    images: str = ""  # the folder of the pair file's images
    batch_size: int = 100
    identities: int = 100  # synthetic: how many unseen people
    images_per_identity: int = 10  # synthetic
    synthetic_pairs: int = 4000  # half of them of one person


@dataclasses.dataclass
class Checkpoint:
    """Orbax checkpoints in the workdir."""

    every: int = 0  # steps between checkpoints; 0: at the end only
    keep: int = 2  # newest ones kept


@dataclasses.dataclass
class Config:
    """A training run."""

    seed: int = 0
    batch_size: int = 128  # over all devices
    epochs: float = 20.0
    steps: int = 0  # if not 0, instead of epochs
    parallel: str = "pmap"  # pmap, or shard_map: jit over a mesh
    devices: int = 0  # how many of the local devices; 0: all
    compilation_cache: str = "~/.cache/facejax/xla"  # compiled programs kept here; empty: nowhere
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
