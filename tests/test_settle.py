"""What counts where fields exclude each other, and what is said of the others."""

import pytest

from facejax.errors import UserError
from facejax.training.config import Config
from facejax.training.settle import settle


def settled(config, *given):
    notes = settle(config, given)
    return config, notes


def test_the_path_says_what_it_is(tmp_path):
    built = tmp_path / "cache" / "faces-1"
    built.mkdir(parents=True)
    (built / "dataset_info.json").touch()
    for path, kind in (
        ("", "synthetic"),
        (str(tmp_path), "folder"),
        (str(tmp_path / "none"), "folder"),
        (str(built), "dataset"),
        (str(built.parent), "dataset"),
    ):
        config = Config()
        config.data.path = path
        assert settled(config)[0].data.kind == kind
    config.data.kind = "folder"
    assert settled(config)[0].data.kind == "folder"


def test_a_path_beside_synthetic_faces():
    """The command line wins over the recipe; else they contradict each other."""
    for given, kind, path in (
        (["data.path"], "folder", "faces"),
        (["data.kind"], "synthetic", ""),
    ):
        config = Config()
        config.data.kind, config.data.path = "synthetic", "faces"
        config, _ = settled(config, *given)
        assert (config.data.kind, config.data.path) == (kind, path)
    for given in ([], ["data.path", "data.kind"]):
        config.data.kind, config.data.path = "synthetic", "faces"
        with pytest.raises(UserError, match=r"data\.path is faces but config\.data\.kind"):
            settle(config, given)


@pytest.mark.parametrize(
    ("steps", "epochs", "given", "expected"),
    [
        (0, 20.0, [], (0, 20.0)),
        (100, 20.0, [], (100, 0.0)),  # of a recipe that counts in steps
        (100, 3.0, ["epochs"], (0, 3.0)),
        (100, 36.0, ["steps"], (100, 0.0)),
        (100, 0.0, ["steps", "epochs"], (100, 0.0)),
        (0, 3.0, ["steps", "epochs"], (0, 3.0)),
        (-5, 20.0, ["steps"], (-5, 0.0)),  # which is out of range
        (100, 36.0, [], None),
        (100, 20.0, ["steps", "epochs"], None),
    ],
)
def test_steps_or_epochs(steps, epochs, given, expected):
    config = Config(steps=steps, epochs=epochs)
    if expected is None:
        with pytest.raises(UserError, match=f"steps is 100 and config.epochs {epochs:g}, and only"):
            settle(config, given)
    else:
        settle(config, given)
        assert (config.steps, config.epochs) == expected


@pytest.mark.parametrize("there", ["pairs", "images"])
def test_pairs_and_their_images_go_together(there):
    config = Config()
    setattr(config.evaluation, there, "x")
    with pytest.raises(UserError, match=f"evaluation.{there} is given but config.evaluation"):
        settle(config)


def of_a_folder(config):
    config.data.path = "faces"


def with_pairs(config):
    config.evaluation.pairs = config.evaluation.images = "x"


def with_adamw(config):
    config.optimizer.name = "adamw"


def with_cosine(config):
    config.optimizer.schedule = "cosine"


def with_pair_loss(config):
    config.loss.name = "supcon"


def with_cosine_pairs(config):
    config.loss.name, config.loss.distance = "deepid2", "cosine"


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (of_a_folder, ["data.identities", "data.images_per_identity"]),
        (of_a_folder, ["evaluation.identities", "evaluation.synthetic_pairs"]),
        (of_a_folder, ["evaluation.every"]),
        (with_pairs, ["evaluation.images_per_identity"]),
        (with_adamw, ["optimizer.momentum"]),
        (with_cosine, ["optimizer.power"]),
        (with_pair_loss, ["head.block_size", "head.sharded"]),
        (with_cosine_pairs, ["loss.margin"]),
        (lambda config: None, ["loss.margins_power", "loss.weights_beta"]),
        (lambda config: None, ["data.damaged", "augment.crop_scale"]),
        (lambda config: None, ["augment.resampling", "augment.erasing_scale"]),
    ],
)
def test_what_has_no_effect_is_said(change, fields):
    config = Config()
    config.evaluation.every = 5
    change(config)
    _, notes = settled(config, *fields)
    assert len(notes) == len(fields)
    for field, note in zip(fields, notes, strict=True):
        assert note.startswith(f"config.{field} has no effect: ")
        assert "{" not in note
    assert not settle(config)  # nobody has set them


def test_what_has_an_effect_is_not():
    config = Config()
    config.augment.crop = 0.5
    _, notes = settled(
        config, "data.identities", "optimizer.momentum", "optimizer.power", "augment.crop_scale",
        "evaluation.every", "evaluation.subset",
        "evaluation.synthetic_pairs", "head.block_size", "data.cache",
    )  # fmt: skip
    assert notes == ()
    config = Config()
    config.augment.preset = "adaface"
    assert settle(config, ["augment.crop_scale", "augment.low_resolution_scale"]) == ()
    config = Config()
    of_a_folder(config)  # without pairs; and `every` is 0
    assert settle(config, ["evaluation.every"]) == ()
    config.evaluation.every = config.evaluation.subset = 20
    assert len(settle(config, ["evaluation.every", "evaluation.subset"])) == 2
    config.evaluation.benchmarks = "lfw=lfw.bin"
    assert settle(config, ["evaluation.every", "evaluation.subset"]) == ()
