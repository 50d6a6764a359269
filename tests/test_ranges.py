"""Fields out of their range, of another type or against each other: one sentence, at once."""

import dataclasses

import pytest

from facejax import objectives
from facejax.errors import UserError
from facejax.training import from_config, ranges
from facejax.training.config import Config, describe, flat, from_dict


def config(**fields):
    """A config with some fields set, as data_path="x" for data.path."""
    made = Config()
    for name, value in fields.items():
        section, _, part = name.partition("_")
        if part and dataclasses.is_dataclass(getattr(made, section, None)):
            setattr(getattr(made, section), part, value)
        else:
            setattr(made, name, value)
    return made


def refusal(**fields):
    with pytest.raises(UserError) as caught:
        from_config.settled(config(**fields))
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_every_number_has_a_range():
    text = (str, bool, str | None, bool | None, tuple[float, ...] | None)
    types = {}
    for name in flat(Config()):
        section, _, part = name.rpartition(".")
        owner = getattr(Config(), section) if section else Config()
        (types[name],) = [f.type for f in dataclasses.fields(owner) if f.name == part]
    assert {name for name, kind in types.items() if kind not in text} <= set(ranges.RANGES)
    assert set(ranges.RANGES) <= set(types)


def test_the_defaults_are_in_range():
    from_config.settled(Config())
    for name in objectives.LOSSES:
        for part, value in objectives.hyperparameters(name).items():
            allowed = ranges.RANGES.get(f"loss.{part}")
            assert allowed is None or allowed.holds(value), (name, part, value)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("seed", [-1, 2**32]),
        ("batch_size", [0, -8]),
        ("epochs", [-1.0, float("nan"), float("inf")]),
        ("steps", [-5, 2**31, 10**400]),
        ("devices", [-1]),
        ("data_image_size", [0, -32, 1, 50, 128]),
        ("data_threads", [-1]),
        ("data_per_identity", [-1]),
        ("augment_flip", [2.0, -0.1, float("nan")]),
        ("augment_shift", [-1, 112]),
        ("augment_crop_scale", [(0.9, 0.5), (0.0, 1.0), (), (float("nan"), 1.0), 0.5]),
        ("augment_erasing_scale", [(0.0, 1.0), "x"]),
        ("augment_preset", ["arcface"]),
        ("augment_resampling", ["bilinear"]),
        ("augment_face_mask", [1.5]),
        ("model_width", [0.0, -1.0]),
        ("model_embedding_size", [0]),
        ("model_dropout", [1.0, 1.5, -0.1]),
        ("loss_margin_warmup", [-5]),
        ("loss_scale", [0.0, float("nan")]),
        ("head_sample_rate", [0.0, 2.0]),
        ("head_block_size", [-2]),
        ("optimizer_learning_rate", [0.0, -1.0, float("nan"), float("inf")]),
        ("optimizer_clip_norm", [-1.0]),
        ("optimizer_warmup", [2.0, -0.5]),
        ("optimizer_momentum", [1.0]),
        ("optimizer_accumulate", [0, -1]),
        ("evaluation_batch_size", [0]),
        ("evaluation_every", [-1]),
        ("checkpoint_keep", [-1]),
        ("checkpoint_every", [-1]),
        ("optimizer_schedule", ["linear"]),
        ("model_name", ["resnet"]),
        ("data_damaged", ["ignore"]),
    ],
)
def test_out_of_range(field, values):
    section, _, part = field.partition("_")
    name = f"{section}.{part}" if part and hasattr(Config(), section) else field
    for value in values:
        said = refusal(**{field: value})
        assert said.startswith(f"config.{name} ")
        assert "give" in said or "choose" in said


def test_a_recipe_may_set_no_other_types():
    assert refusal(batch_size="16") == "config.batch_size is '16', a str; give a whole number"
    assert "give a whole number" in refusal(steps=10.0)
    assert "give a whole number" in refusal(batch_size=True)
    assert "give text" in refusal(data_path=None)
    assert "give True or False" in refusal(head_fused=1)
    assert refusal(loss="arcface").startswith("config.loss is 'arcface'; give a Loss, or set")
    from_config.settled(config(optimizer_learning_rate=1))  # a whole number is a number


def test_a_field_that_is_not_there_can_not_be_set():
    for owner in (Config(), Config().optimizer, Config().data):
        with pytest.raises(AttributeError):
            owner.lr = 0.1


def test_what_does_not_go_together():
    assert "both 0" in refusal(epochs=0.0)
    assert "data.path is empty" in refusal(data_kind="folder")
    assert "several images" in refusal(loss_name="supcon")
    assert "per_identity 3" in refusal(loss_name="supcon", data_per_identity=3)
    assert "l_a 9.0 is not below config.loss.u_a 3.0" in refusal(
        loss_name="magface", loss_l_a=9.0, loss_u_a=3.0
    )
    from_config.settled(config(loss_l_a=9.0))  # which arcface has not, as is said later
    assert "takes config.optimizer.name=sgd" in refusal(head_fused=True, optimizer_name="adamw")
    for name, field, value in (
        ("uniface", "smoothing", 0.1),
        ("softmax", "negative_cap", 0.0),
        ("normface", "class_margins", "counts"),
        ("deepid2", "class_weights", "counts"),
    ):
        said = refusal(**{"loss_name": name, f"loss_{field}": value})
        assert said == f"config.loss.{field} is not for the loss {name}; leave it out"
    by_class = dict(loss_class_margins="counts", loss_class_weights="counts")
    from_config.settled(config(**by_class, head_sample_rate=0.5))  # each class brings its own


@pytest.mark.parametrize(
    ("rows", "accumulate", "devices", "per_identity", "word"),
    [
        (1, 1, 1, 0, "one row"),
        (8, 8, 1, 0, "one row"),
        (8, 2, 1, 4, "supcon"),  # each micro-batch is one identity
        (8, 8, 1, 4, "one row"),
        (8, 1, 1, 8, "supcon"),
        (32, 4, 8, 4, "supcon"),  # one row of each device: eight identities, no pair
        (8, 1, 1, 4, None),
        (16, 2, 1, 4, None),
        (16, 2, 4, 4, None),
        (8, 4, 2, 0, None),
    ],
)
def test_micro_batches_have_something_to_learn_from(rows, accumulate, devices, per_identity, word):
    made = config(batch_size=rows, optimizer_accumulate=accumulate)
    if per_identity:
        made.loss.name, made.data.per_identity = "supcon", per_identity
    if word is None:
        ranges.check_batch(made, devices=devices)
        return
    with pytest.raises(UserError, match=word) as caught:
        ranges.check_batch(made, devices=devices)
    assert "config.optimizer.accumulate" in str(caught.value)


def test_every_field_is_described_where_it_stands():
    lines = describe()
    assert [line.partition("=")[0] for line in lines] == list(dict.fromkeys(flat(Config())))
    (rate,) = [line for line in lines if line.startswith("optimizer.learning_rate=")]
    assert rate.split(maxsplit=1) == ["optimizer.learning_rate=0.1", "at its peak"]


def test_a_config_of_another_version_is_read():
    read = from_dict({"seed": 4, "gone": 1, "data": {"image_size": 64, "gone": 2}, "old": {}})
    assert (read.seed, read.data.image_size) == (4, 64)
