"""The README's commands and example are what they claim to be."""

import pathlib
import re

import numpy as np

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
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
