"""The augmentation of published recipes, by name, as keywords of `augment`.

docs/augmentation.md says where each comes from, and in what it differs.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "": {},
    "insightface": {"flip": 0.5},
    "insightface_dali": {
        "flip": 0.5,
        "low_resolution": 0.1,
        "low_resolution_scale": (0.5, 0.8),
        "blur": 0.2,
        "hue": 0.2,
        "gray": 0.1,
    },
    "magface": {"flip": 0.5},
    "adaface": {
        "flip": 0.5,
        "crop_in_place": 0.2,
        "crop_scale": (0.2, 1.0),
        "low_resolution": 0.2,
        "low_resolution_scale": (0.2, 1.0),
        "resampling": "opencv",
        "color_jitter": 0.2,
    },
    "random_erasing": {"flip": 0.5, "erasing": 0.5, "erasing_scale": (0.02, 0.4)},
}


def preset(name: str) -> dict[str, Any]:
    """The keywords of `augment` that make up a published recipe; none for an empty name.

    Args:
      name: one of `PRESETS`.

    Returns:
      A dictionary of your own: what is not in it stays at the default of `augment`.

    Raises:
      ValueError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose {', '.join(filter(None, PRESETS))}")
    return dict(PRESETS[name])
