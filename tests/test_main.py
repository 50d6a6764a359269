"""The command `facejax`: results on stdout, mistakes on stderr in one sentence, its statuses."""

import json
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import pytest

import facejax
from facejax import __main__, checkpoints

ROOT = pathlib.Path(__file__).parents[1]
FACTS = {
    "architecture": {"name": "iresnet10", "width": 0.25},
    "num_classes": 400,
    "config": {"loss": {"name": "cosface"}},
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Two checkpoints, and a folder that is none."""
    folder = tmp_path_factory.mktemp("run")
    manager = checkpoints.open_directory(folder / "checkpoints", keep=2)
    for step in (5, 10):
        checkpoints.save(manager, step, {"weights": jnp.ones((400, 8))}, FACTS)
    manager.close()
    (folder / "checkpoints" / "15").mkdir()
    return folder


def test_a_table_of_checkpoints(workdir, capfd):
    assert __main__.main(["checkpoints", "list", str(workdir)]) == 0
    said, complaint = capfd.readouterr()
    header, rule, *rows = said.splitlines()
    assert header.split() == ["step", "saved", "size", "classes", "loss", "architecture", "whole"]
    assert set(rule) == {"-"}
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(rf"5 +{date} +0\.\d MiB +400 +cosface +iresnet10 +yes", rows[0])
    assert re.fullmatch(rf"15 +{date} +0\.0 MiB +- +- +- +no", rows[2])
    assert complaint == ""


def test_the_same_for_machines(workdir, capsys):
    assert __main__.main(["checkpoints", "list", str(workdir / "checkpoints"), "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [(record["step"], record["whole"]) for record in records] == [
        (5, True),
        (10, True),
        (15, False),
    ]
    first = records[0]
    assert (first["num_classes"], first["loss"]) == (400, "cosface")
    assert first["architecture"] == "iresnet10"
    assert first["bytes"] > 0
    assert records[2]["loss"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["checkpoints", "list", "nowhere"], "there is no checkpoint in nowhere; "),
        (["checkpoints", "list"], "required: DIR; facejax checkpoints list --help"),
        (["checkpoints", "lst"], "'lst'"),
        (["chekpoints"], "'chekpoints'"),
        ([], "required: COMMAND; facejax --help"),
        (["checkpoints", "list", ".", "--jsn"], "--jsn"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert __main__.main(arguments) == 2
    said, complaint = capsys.readouterr()
    assert said == ""
    assert len(complaint.splitlines()) == 1
    assert complaint.startswith("error: ")
    assert sentence in complaint


def test_interrupted(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "summaries", interrupt)
    assert __main__.main(["checkpoints", "list", "."]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_help_and_version_are_no_mistakes(capsys):
    for arguments, word in ((["--help"], "checkpoints"), (["--version"], "facejax 0")):
        assert __main__.main(arguments) == 0
        assert word in capsys.readouterr().out


def test_it_starts_quickly_as_a_module():
    """And does not import what the other commands need."""
    command = [sys.executable, "-X", "importtime", "-m", "facejax", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"facejax {facejax.__version__}\n"
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")
    }
    assert "argparse" in imported
    assert not imported & {"orbax", "tensorflow_datasets", "matplotlib"}


def test_a_list_of_checkpoints_draws_no_pictures():
    """It waits for JAX and Orbax, and for nothing that only an evaluation needs."""
    program = (
        "import sys; from facejax import __main__; __main__.main(['checkpoints', 'list', '/none']);"
        "print([name for name in ('matplotlib', 'flax', 'grain') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
