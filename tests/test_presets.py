"""The presets are what is published, and their views what a loop in float64 makes of the draws."""

import functools
import json

import jax
import numpy as np
import pytest

from facejax.data import PRESETS, preset
from facejax.data.augment import augment
from facejax.data.draws import boxes_inside, draw
from facejax.errors import UserError
from facejax.training import from_config, resume
from facejax.training.config import Config, from_dict
from facejax.training.settle import augmentation
from tests import reference_augment as reference
from tests.pictures import Faces

CHOICES = (  # in the order in which they are drawn
    "flip", "crop", "photometric", "low_resolution", "erasing",
    "crop_in_place", "color_jitter", "blur", "hue", "gray", "face_mask",
)  # fmt: skip
COUNT, SIZE = 32, 20


def test_they_are_the_published_ones():
    """AdaFace's and DALI's numbers as they stand in the authors' code, for 112 pixels."""
    assert preset("magface") == preset("insightface") == {"flip": 0.5}
    assert preset("adaface") == {
        "flip": 0.5,
        "crop_in_place": 0.2, "crop_scale": (0.2, 1.0),
        "low_resolution": 0.2, "low_resolution_scale": (0.2, 1.0), "resampling": "opencv",
        "color_jitter": 0.2,
    }  # fmt: skip
    assert preset("insightface_dali") == {
        "flip": 0.5,
        "low_resolution": 0.1, "low_resolution_scale": (0.5, 0.8),
        "blur": 0.2, "hue": 0.2, "gray": 0.1,
    }  # fmt: skip
    assert preset("random_erasing") == {"flip": 0.5, "erasing": 0.5, "erasing_scale": (0.02, 0.4)}
    assert preset("") == {}
    assert len(PRESETS) == 6
    with pytest.raises(ValueError, match="no preset 'arcface'; choose insightface, "):
        preset("arcface")


def test_a_preset_is_a_copy():
    preset("magface")["flip"] = 0.0
    assert preset("magface")["flip"] == 0.5


@pytest.mark.parametrize("name", ["adaface", "insightface_dali", "random_erasing"])
def test_the_views_of_a_preset_are_those_of_a_loop(name):
    """All of it at once, from the numbers that were drawn; each change is on at least once."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    keys = jax.random.split(jax.random.key(1), COUNT)
    keywords = preset(name)
    views = jax.jit(functools.partial(augment, **keywords))(keys, images)
    numbers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), draw(keys))
    seen = set()
    for row in range(COUNT):
        drawn = dict(zip(CHOICES, numbers.choices[row], strict=True))
        on = {change for change in CHOICES if drawn[change] < keywords.get(change, 0.0)}
        seen |= on
        image = images[row] / 127.5 - 1.0
        if "crop_in_place" in on:
            boxes = boxes_inside(
                draw(keys).kept, height=SIZE, width=SIZE, area=keywords["crop_scale"]
            )
            image = reference.keep(image, np.asarray(boxes[row], np.float64))
        if "low_resolution" in on:
            low, high = keywords["low_resolution_scale"]
            share = low + (high - low) * numbers.resolution[row, 0]
            if keywords.get("resampling") == "opencv":
                down, up = (int(5 * number) for number in numbers.rules[row])
                image = reference.low_resolution(image, share, down, up)
            else:
                image = reference.antialiased(image, share)
        if "blur" in on:
            image = reference.blur(image, 1 + int(2 * numbers.radius[row, 0]))
        if "color_jitter" in on:
            order = int(6 * numbers.order[row, 0])
            image = reference.color_jitter(image, 0.5 + numbers.jitter[row], order)
        if "hue" in on:
            degrees, saturation = numbers.hue[row] * [20, 0.2] + [0, 1]
            image = reference.turn_hue(image, degrees, saturation)
        if "gray" in on:
            image = reference.gray(image)
        if "flip" in on:
            image = image[:, ::-1]
        if "erasing" in on:
            image = erased(image, numbers.erased[row], numbers.color[row])
        np.testing.assert_allclose(views[row], image, atol=3e-5, err_msg=f"{row} {on}")
    assert seen == {change for change in CHOICES if keywords.get(change)}


def erased(image, uniform, color):
    area = (0.02 + 0.38 * uniform[0]) * SIZE * SIZE
    ratio = np.exp(np.log(0.3) + np.log(3.3 / 0.3) * uniform[1])
    tall, wide = min(np.sqrt(area / ratio), SIZE), min(np.sqrt(area * ratio), SIZE)
    box = [(SIZE - tall) * uniform[2], (SIZE - wide) * uniform[3], tall, wide]
    kept = reference.keep(np.zeros_like(image), box)  # black outside
    return np.where(kept == -1, image, 2 * color - 1)


def test_a_field_that_is_set_wins_over_the_preset():
    config = Config()
    assert augmentation(config) == augment.__kwdefaults__
    config.augment.preset = "adaface"
    assert augmentation(config) == augment.__kwdefaults__ | preset("adaface")
    config.augment.flip, config.augment.crop_in_place, config.augment.erasing = 0.0, 0.0, 0.1
    config.augment.crop_scale = (0.5,)
    expected = preset("adaface") | dict(flip=0.0, crop_in_place=0.0, crop_scale=(0.5, 0.5))
    assert augmentation(config) == augment.__kwdefaults__ | expected | {"erasing": 0.1}
    view = from_config.augmentation(config)
    assert isinstance(view, functools.partial)
    assert (view.func, view.keywords) == (augment, augmentation(config))


def test_there_is_a_field_for_every_keyword():
    config = Config()
    fields = set(config.augment.__slots__) - {"preset"}
    assert fields == set(augment.__kwdefaults__)


def test_an_unknown_preset_is_refused():
    config = Config()
    config.augment.preset, config.augment.crop_scale = "AdaFace", (0.5, 1.0)
    with pytest.raises(UserError, match=r"augment\.preset is 'AdaFace'; choose .*adaface"):
        from_config.settled(config, ["augment.preset", "augment.crop_scale"])


def test_a_preset_and_the_same_fields_are_one_run():
    """Also beside a checkpoint of before there were presets."""
    config, fields = Config(), Config()
    config.augment.preset = "random_erasing"
    fields.augment.erasing, fields.augment.erasing_scale = 0.5, (0.02, 0.4)
    from_config.settled(config)
    source = Faces(("a", "b"), [0, 0, 1])

    def changed(before):
        facts = json.loads(json.dumps(from_config.facts(before, source)))
        for name in ("preset", "hue", "gray"):
            del facts["config"]["augment"][name]
        return resume.changes(facts, config, resume.data_facts(source))

    assert changed(fields) == {}
    assert changed(Config()) == {
        "augment.erasing": "augment.erasing 0.5, was 0",
        "augment.erasing_scale": "augment.erasing_scale (0.02, 0.4), was (0.02, 0.25)",
    }
    assert from_dict({"augment": {"preset": "magface"}}).augment.preset == "magface"
