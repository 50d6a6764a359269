"""The whole way: photographs, a folder of crops, a network of one's own, thresholds, names."""

import json

import cv2
import numpy as np
import pytest

from facejax import __main__
from facejax.recognition import packages
from tests.packaged import installed
from tests.programs import done, program
from tests.rendered import rendered

PEOPLE, SHOTS = 8, 6


@pytest.mark.slow
def test_photographs_become_a_network_that_names_people(tmp_path, monkeypatch, capsys):
    installed(packages.YUNET)
    monkeypatch.setenv("FACEJAX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for person in range(PEOPLE):
        (tmp_path / "photos" / f"P{person}").mkdir(parents=True)
        turned = {"yaw": random.uniform(-0.3, 0.3, SHOTS), "roll": random.uniform(-0.3, 0.3, SHOTS)}
        for shot, photo in enumerate(rendered([person] * SHOTS, **turned)):
            cv2.imwrite(f"photos/P{person}/{shot}.png", photo[..., ::-1])

    def say(*arguments):
        assert __main__.main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    crops = say("align", "photos", "--out=crops", "--format=png")["crops"]
    assert len(crops) == PEOPLE * SHOTS
    small = ["--config.model.width=0.125", "--config.model.embedding_size=32", "--config.steps=60"]
    small += ["--config.batch_size=16", "--config.data.image_size=112", "--config.data.path=crops"]
    small += ["--config.evaluation.every=0", "--config.checkpoint.every=0", "--workdir=run"]
    done(program("train.py", *small, cwd=tmp_path))
    chosen = "--recognizer=run"
    kept = say("calibrate", "crops", "--aligned", "--far=0.05", chosen)
    assert kept["kept"] == "run/thresholds.json"
    assert kept["thresholds"][0]["negatives"] == SHOTS**2 * PEOPLE * (PEOPLE - 1) // 2
    say("embed", "crops", "--aligned", "--out=crops.npz", chosen)
    with np.load("crops.npz") as saved:
        assert saved["embeddings"].shape == (PEOPLE * SHOTS, 32)
    for person in range(PEOPLE - 2):
        options = (chosen, "--unchecked", "--duplicates=allow")
        say("enroll", "people", f"P{person}", f"photos/P{person}/0.png", *options)
    others = [f"photos/P{person}/1.png" for person in range(PEOPLE)]
    found = say("identify", "people", *others, chosen, "--far=0.05")
    names = [face["name"] for photo in found["photos"] for face in photo["faces"]]
    right = sum(name == f"P{person}" for person, name in enumerate(names[: PEOPLE - 2]))
    assert right >= PEOPLE - 4, found
    assert len(names) == PEOPLE
