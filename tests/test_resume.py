"""Whether a run is the one that a checkpoint is of: its people, its data, its loss."""

import json

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.training import from_config, resume
from facejax.training.config import Config
from tests.pictures import Faces

LABELS = [0, 0, 1, 1, 1, 2]


def settled(**fields):
    config = Config(**fields)
    config.data.path = "faces"
    from_config.settled(config)
    return config


def saved(source, config=None):
    """Facts as they come back from a checkpoint."""
    return json.loads(json.dumps(from_config.facts(config or settled(), source)))


def test_the_same_identities_go_on():
    source = Faces("abc", LABELS)
    same, note = resume.same_identities(source, saved(source))
    assert same is source
    assert note == ""


def test_moved_identities_get_the_numbers_of_their_names():
    """Class weights belong to names: row 0 is a's, wherever a stands now."""
    before, now = Faces("abc", LABELS), Faces("cab", [0, 1, 1, 2, 2, 2])
    source, note = resume.same_identities(now, saved(before))
    assert "in another order" in note
    assert source.identity_names == ("a", "b", "c")
    np.testing.assert_array_equal(source.labels, [2, 0, 0, 1, 1, 1])
    assert [source[i]["label"] for i in range(6)] == source.labels.tolist()
    assert source[0]["image"] == now[0]["image"]
    assert len(source) == 6
    assert source.num_classes == 3
    going_on = resume.going_on(saved(before), settled(), now)
    assert going_on.changed == ()  # the same images of the same people
    assert resume.same_identities(now, saved(source))[0].identity_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("abd", "d is new and c is missing"),
        ("abcd", "d is new;"),
        ("ab", "c is missing;"),
        ("uvwxyz", "u, v, w, x, y and 1 more are new and a, b, c are missing"),
    ],
)
def test_other_identities_are_named(names, said):
    now = Faces(names, np.arange(len(names)))
    with pytest.raises(UserError, match=said):
        resume.going_on(saved(Faces("abc", LABELS)), settled(), now)


def test_many_names_are_known_by_their_hash(monkeypatch):
    monkeypatch.setattr(resume, "_NAMES", 2)
    facts = saved(Faces("abc", LABELS))
    assert "identities" not in facts["data"]
    assert resume.same_identities(Faces("abc", LABELS), facts)[1] == ""
    with pytest.raises(UserError, match="3 other identities, or of these in another order"):
        resume.same_identities(Faces("cab", LABELS), facts)


def test_an_old_checkpoint_goes_on_with_a_word():
    facts = saved(Faces("abc", LABELS))
    del facts["data"], facts["config"]["data"]["damaged"]
    facts["config"] |= {"epochs": 20.0, "steps": 7}  # as they stood side by side
    going_on = resume.going_on(facts, settled(steps=7), Faces("xyz", LABELS))
    assert "does not say whose class weights" in going_on.note
    assert going_on.changed == ()


def test_what_changed_is_listed():
    config = settled()
    config.optimizer.learning_rate, config.data.path = 9.0, "elsewhere"
    going_on = resume.going_on(saved(Faces("abc", LABELS)), config, Faces("abc", LABELS))
    assert set(going_on.changed) == {
        "optimizer.learning_rate 9, was 0.1",
        "data.path 'elsewhere', was 'faces'",
    }
    assert going_on.another_run == ()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seed", 5, "seed 5, was 0"),
        ("batch_size", 8, "batch_size 8, was 128"),
        ("loss.name", "cosface", "loss.name 'cosface', was 'arcface'"),
        ("loss.margin", 0.3, "loss.margin 0.3, was 0.5"),
        ("data.image_size", 64, "data.image_size 64, was 112"),
    ],
)
def test_another_loss_seed_or_order_is_another_run(field, value, said):
    config = settled()
    section, _, part = field.rpartition(".")
    setattr(getattr(config, section) if section else config, part, value)
    facts = saved(Faces("abc", LABELS))
    assert said in resume.going_on(facts, config, Faces("abc", LABELS)).another_run


def test_a_default_that_is_spelt_out_is_no_change():
    config = settled()
    config.loss.margin, config.loss.scale = 0.5, 64.0
    facts = saved(Faces("abc", LABELS))
    assert resume.going_on(facts, config, Faces("abc", LABELS)).changed == ()


def test_other_images_are_another_run():
    going_on = resume.going_on(saved(Faces("abc", LABELS)), settled(), Faces("abc", [*LABELS, 2]))
    assert going_on.another_run == ("7 images, was 6",)


def test_other_rendered_faces_are_another_run():
    config = Config()
    from_config.settled(config)
    facts = saved(Faces("abc", LABELS), config)
    config.data.images_per_identity = 5
    (said,) = resume.going_on(facts, config, Faces("abc", LABELS)).another_run
    assert said == "data.images_per_identity 5, was 16"
