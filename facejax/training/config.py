"""Every knob of a training run: the only list of them.

`configs/*.py` build one `Config` each in `get_config(arg)`; the command line changes single fields,
as in `--config.optimizer.learning_rate=0.1`. Library functions never see a config. A path may begin
with `~` or `$FACEJAX_HOME`, which is `~/.cache/facejax` where the environment does not set it.

The classes have slots, so that setting a field that does not exist is an error. `--help` of
train.py prints this list, from the comments here; ranges.py has the range of every field,
settle.py what becomes of fields that exclude each other.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any


@dataclasses.dataclass(slots=True)
class Data:
    """Where the faces come from, and what the host does with them."""

    kind: str = ""  # synthetic (rendered), or as in docs/data.md: folder, rec ...; empty: by path
    path: str = ""  # a folder, file or dataset, or several with commas; empty: synthetic
    join: str = "disjoint"  # several paths: disjoint people, or the same people by their names
    sessions: bool = False  # folder: folders inside an identity's have more of its images
    minimum_images: int = 0  # identities that have fewer are left out
    maximum_images: int = 0  # so many of each identity at most, drawn at random; 0: all
    share_of_images: float = 1.0  # of all images, drawn at random
    share_of_identities: float = 1.0  # of the identities, drawn at random
    selection_seed: int = 0  # of these draws
    damaged: str = "refuse"  # images of a folder that do not decode: refuse, or skip them
    bad_records: float = 0.001  # share of records that others stand in for if they can't be read
    cache: str = "$FACEJAX_HOME/datasets"  # datasets built, faces rendered
    image_size: int = 112  # height and width the network sees, a multiple of 16
    threads: int | None = None  # decoding threads; None: from the core count
    per_identity: int = 0  # images of each identity in a batch; 0: a batch is drawn at random
    balance: float = 0.0  # 0: images come equally often, 1: identities do; or between
    identities: int = 400  # synthetic: how many people are rendered
    images_per_identity: int = 16  # synthetic: how many images of each of them are rendered


@dataclasses.dataclass(slots=True)
class Augment:
    """The probability that an image is changed so, unless said otherwise.

    None stands for what the preset has, or for the default of `data.augment`; a field that is set
    wins over the preset. docs/augmentation.md has the table of both.
    """

    preset: str = ""  # adaface, insightface, insightface_dali, magface or random_erasing
    flip: float | None = None  # mirrored (default 0.5)
    shift: int | None = None  # pixels: moved by up to so many, edges repeated
    crop: float | None = None  # random resized crop
    crop_in_place: float | None = None  # black around a random crop, not resized
    crop_scale: tuple[float, ...] | None = None  # bounds of the share of the area that crops keep
    photometric: float | None = None  # brightness, contrast and saturation
    color_jitter: float | None = None  # the same in a random order, about the luma
    hue: float | None = None  # turned, and more saturated
    gray: float | None = None  # without color
    low_resolution: float | None = None  # shrunk and enlarged again
    low_resolution_scale: tuple[float, ...] | None = None  # bounds of the share of the size
    resampling: str | None = None  # of low resolution: antialiased or opencv (five, at random)
    blur: float | None = None  # a Gaussian over 3 or 5 pixels
    erasing: float | None = None  # a rectangle erased
    erasing_scale: tuple[float, ...] | None = None  # bounds of its share of the area
    face_mask: float | None = None  # nose and mouth covered


@dataclasses.dataclass(slots=True)
class Model:
    """The network from an image to an embedding."""

    name: str = "iresnet50"  # iresnet10/18/34/50/100/200 or mobilefacenet
    width: float = 1.0  # multiplies the channels
    embedding_size: int = 512  # length of an embedding
    dropout: float = 0.0  # before the last dense layer
    dtype: str = "float32"  # of the computation (bfloat16 on TPU and GPU); parameters are float32


@dataclasses.dataclass(slots=True)
class Loss:
    """The loss by name, and its hyperparameters; None stands for the loss's own default.

    docs/losses.md says which loss takes what; one that a loss does not take is refused.
    """

    name: str = "arcface"  # one of facejax.objectives.LOSSES
    scale: float | None = None  # multiplies the cosines
    margin: float | None = None  # what the target is held back by
    scale_warmup: int | None = None  # steps over which the scale rises from 1; 0: none
    margin_warmup: int | None = None  # steps over which the margin rises from 0; 0: none
    learn_scale: bool | None = None  # normface: the scale is trained
    beyond_pi: str | None = None  # target past pi: plain, linear, easy or saturate
    gradient: str | None = None  # arcface, subcenter_arcface: exact or straight_through
    m1: float | None = None  # combined_margin: multiplies the angle
    m2: float | None = None  # combined_margin: is added to it
    m3: float | None = None  # combined_margin: is taken from the cosine
    anneal_base: float | None = None  # l_softmax, sphereface: blend with the plain softmax,
    anneal_gamma: float | None = None  # max(minimum, base (1 + gamma step)^-power)
    anneal_power: float | None = None  # in that formula
    anneal_minimum: float | None = None  # in that formula
    base: str | None = None  # mv_softmax: arc or am; elasticface: arc or cos
    hardness: float | None = None  # mv_softmax
    adaptive: bool | None = None  # mv_softmax
    rate: float | None = None  # of running statistics, or of the centres
    update: bool | None = None  # whether the running statistics (adacos: the scale) move
    l_a: float | None = None  # magface: smallest norm that counts
    u_a: float | None = None  # magface: largest norm that counts
    l_m: float | None = None  # magface: margin at l_a
    u_m: float | None = None  # magface: margin at u_a
    lambda_g: float | None = None  # magface: weight of the regulariser
    h: float | None = None  # adaface: concentration
    centers: int | None = None  # subcenter_arcface: centres of each identity
    mean: float | None = None  # elasticface: of the margins
    sigma: float | None = None  # elasticface: their standard deviation
    sort: bool | None = None  # elasticface: ElasticFace+
    balance: float | None = None  # sphereface2, uniface: positives against negatives
    t: float | None = None  # sphereface2: bends the cosine
    weight: float | None = None  # sphereface2; deepid2 and center_loss: of their second part
    slope: float | None = None  # sface
    a: float | None = None  # sface
    b: float | None = None  # sface
    distance: str | None = None  # deepid2: l2, l1 or cosine
    mining: str | None = None  # facenet: semihard, hard or all
    alpha: float | None = None  # multi_similarity
    beta: float | None = None  # multi_similarity
    threshold: float | None = None  # multi_similarity
    epsilon: float | None = None  # multi_similarity
    temperature: float | None = None  # supcon
    regularizer: float | None = None  # n_pairs: on the squared length of the embeddings
    smoothing: float = 0.0  # share of a label that is spread over all identities
    negative_cap: float | None = None  # negatives above this cosine are left out; None: none are
    class_margins: str = ""  # counts: more where images are few, `margin` at most; empty: one
    margins_power: float = 0.25  # class_margins: the power of the counts that they fall by
    class_weights: str = ""  # counts: more where images are few, 1 in the mean; empty: all alike
    weights_beta: float = 0.999  # class_weights: 0 weighs all alike, next to 1 by 1 / images


@dataclasses.dataclass(slots=True)
class Head:
    """The class weights: how they are computed with, kept and updated."""

    block_size: int = 0  # classes at a time; 0: by their number; -1: always all at once
    sharded: bool = True  # split over the devices; False: each keeps all of them
    sample_rate: float = 1.0  # share of the classes in a step (Partial FC); 1: all, exactly
    lazy_decay: bool = False  # sampled: make up for the weight decay missed; False: skip it
    fused: bool = False  # not sampled: updated in the backward pass, without a gradient of all
    dtype: str = ""  # of the products' inputs; empty: the model's. Weights are float32


@dataclasses.dataclass(slots=True)
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
    accumulate: int = 1  # micro-batches in a step; BatchNorm's statistics are those of each


@dataclasses.dataclass(slots=True)
class Evaluation:
    """What is measured during training, of identities that are not in training."""

    every: int = 0  # steps between evaluations; 0: at the start and the end only
    benchmarks: str = ""  # NAME=PATH,NAME=PATH, paths as of eval.py --benchmark
    subset: int = 0  # so many pairs, probes or templates of each until the last step; 0: all
    pairs: str = ""  # a pair file; empty: synthetic identities, if the data is synthetic
    images: str = ""  # the folder of the pair file's images
    batch_size: int = 100  # images embedded at a time; more, up to a multiple of the devices
    identities: int = 100  # synthetic: how many unseen people
    images_per_identity: int = 10  # synthetic: how many images of each of them
    synthetic_pairs: int = 4000  # half of them of one person


@dataclasses.dataclass(slots=True)
class Checkpoint:
    """Orbax checkpoints in the workdir."""

    every: int = 0  # steps between checkpoints; 0: at the end only
    keep: int = 2  # newest ones kept; 0: all
    best: str = ""  # number of metrics.jsonl whose best is kept in best/; -NUMBER: less is better


@dataclasses.dataclass(slots=True)
class Config:
    """A training run."""

    seed: int = 0  # of all that is drawn at random
    batch_size: int = 128  # over all devices
    epochs: float = 20.0  # times that the data is gone through
    steps: int = 0  # instead of epochs; 0: by the epochs
    parallel: str = "pmap"  # pmap, or shard_map: jit over a mesh
    devices: int = 0  # how many of the local devices; 0: all
    tensorboard: bool = False  # metrics.jsonl also for TensorBoard (extra tensorboard)
    compilation_cache: str = "$FACEJAX_HOME/xla"  # compiled programs kept here; empty: nowhere
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    head: Head = field(default_factory=Head)
    optimizer: Optimizer = field(default_factory=Optimizer)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config that `dataclasses.asdict` (and JSON) made these values of.

    Fields that this version does not have are left out, those that it has besides have their
    defaults.
    """
    config = Config()
    for name, value in values.items():
        section = getattr(config, name, None)
        if dataclasses.is_dataclass(section):
            for part, inner in value.items():
                if hasattr(section, part):
                    setattr(section, part, tuple(inner) if isinstance(inner, list) else inner)
        elif hasattr(config, name):
            setattr(config, name, value)
    return config


def flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted name, as in {"optimizer.learning_rate": 0.1}."""
    fields: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            fields |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            fields[name] = value
    return fields


def describe() -> list[str]:
    """A line for each field: its dotted name, its default, and its comment in this file."""
    classes = pathlib.Path(__file__).read_text("utf-8").partition("\ndef ")[0]
    pattern = r"^(?:class (\w+):|    (\w+): [^=]+ = (.+?)(?:  # (.*))?)$"
    sections = {type(getattr(Config(), name)).__name__: name for name in Config.__slots__}
    lines: dict[str, list[str]] = {"": []}  # those of Config itself come first
    name = ""
    for kind, part, default, comment in re.findall(pattern, classes, re.MULTILINE):
        if kind:
            name = sections.get(kind, "")
            lines.setdefault(name, [])
        elif not default.startswith("field("):
            dotted = f"{name}.{part}" if name else part
            lines[name].append(f"{dotted}={default}".ljust(40) + f"  {comment}".rstrip())
    return [line for section in lines.values() for line in section]
