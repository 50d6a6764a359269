"""The README's commands and example are what they claim to be."""

import pathlib
import re

import cv2
import numpy as np

from facejax.recognition import packages
from tests.packaged import installed
from tests.rendered import kept

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


PHOTO_TO_NAME, LOSS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_photo_to_name(tmp_path, monkeypatch, capsys):
    """Two rendered people side by side, one of whom is enrolled with another picture."""
    installed(packages.SFACE)
    party = np.concatenate([kept(8), kept(3, yaw=0.2)], axis=1)
    for name, photo in (("ann", kept(3)), ("party", party)):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), photo[..., ::-1])
    monkeypatch.chdir(tmp_path)
    exec(compile(PHOTO_TO_NAME, "README.md", "exec"), {})
    said = capsys.readouterr().out
    found = re.match(r"\w+ (0\.\d\d) \(threshold 0\.\d\d\), Ann (0\.\d\d) .*, Ann 1\.00 ", said)
    assert found, said
    assert float(found[2]) > float(found[1]) + 0.2, "rendered people are alike, but not that much"


def test_the_example_of_a_loss_runs():
    example = LOSS
    assert len(example.strip().splitlines()) <= 15
    namespace: dict = {}
    exec(compile(example, "README.md", "exec"), namespace)
    assert np.isfinite(namespace["loss"])
    assert [g.shape for g in namespace["gradients"]] == [(32, 512), (1000, 512)]
    assert all(np.isfinite(leaf).all() for leaf in namespace["gradients"])


def test_two_commands_do_all_the_set_up():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("train.py")
    assert commands[1].endswith("pytest")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (pathlib.Path(__file__).parents[1] / target).exists(), target
