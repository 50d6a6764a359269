"""eval.py on several benchmarks and models at once, by their embeddings: no network is compiled."""

import csv
import json

import numpy as np
import pytest

from facejax.evaluation.bin_file import write_bin
from tests.pictures import encode
from tests.programs import ROOT, done, fork, program, tree

PEOPLE = 20
SETS = ("--benchmark=list=pairs.txt", "--benchmark=packed=set.bin", "--images=faces")
MODELS = ("--embeddings=good.npz", "--embeddings=bad")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Twenty people of three images, a pair file and a .bin of it, and two models' embeddings."""
    root = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    names, rows, images = [], [], []
    for person in range(PEOPLE):
        (root / "faces" / f"P{person}").mkdir(parents=True)
        base = random.normal(size=16)
        for number in range(1, 4):
            names.append(f"P{person}/P{person}_{number:04d}.png")
            rows.append(base + random.normal(size=16))
            images.append(encode(random.integers(0, 256, (8, 8, 3), np.uint8), ".png"))
            (root / "faces" / names[-1]).write_bytes(images[-1])
    same = [(3 * p + a, 3 * p + b) for p in range(PEOPLE) for a, b in ((0, 1), (1, 2), (2, 0))]
    other = [(3 * p + n, (3 * p + 3 + n) % (3 * PEOPLE)) for p in range(PEOPLE) for n in range(3)]
    pairs = same + other
    lines = [f"{names[a]},{names[b]},{int(n < 60)}" for n, (a, b) in enumerate(pairs)]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    write_bin(
        root / "set.bin", [images[i] for pair in pairs for i in pair], [n < 60 for n in range(120)]
    )
    good = np.array(rows, np.float32)
    bad = good + random.normal(scale=2, size=good.shape).astype(np.float32)
    numbers = list(map(str, range(240)))
    flat = np.array(pairs).ravel()
    np.savez(
        root / "good.npz", embeddings=np.concatenate([good, good[flat]]), names=names + numbers
    )
    (root / "bad").mkdir()
    np.savez(root / "bad" / "list.npz", embeddings=bad[::-1], names=names[::-1])
    np.savez(root / "bad" / "packed.npz", embeddings=bad[flat])
    skins = [
        "path,skin",
        *(f"{name},{'dark' if i < 30 else 'light'}" for i, name in enumerate(names)),
    ]
    (root / "groups.csv").write_text("\n".join(skins) + "\n")
    return root


def test_several_benchmarks_and_models_in_one_run(home, tmp_path):
    out = tmp_path / "out"
    said = done(
        fork(
            "eval.py",
            *SETS,
            *MODELS,
            "--fars=0.1,0.01",
            "--compat=insightface",
            f"--save_embeddings={tmp_path / 'saved'}",
            f"--scores={tmp_path / 'scores.csv'}",
            f"--output={out}",
            cwd=home,
        )
    )
    rows = [line for line in said.splitlines() if line.startswith(("list, ", "packed, "))]
    assert [row.split("  ")[0] for row in rows[:4]] == [
        "list, good", "list, bad", "packed, good", "packed, bad"
    ]  # fmt: skip
    for part in ("Accuracy-Flip", "list, good - bad", "area to 20 %", "too few negatives"):
        assert part in said
    found = json.loads((out / "evaluation.json").read_text())
    scores = {name: found[name]["scores"] for name in ("list", "packed")}
    for model in ("good", "bad"):  # the .bin set is the pair file's
        for number in ("verification_accuracy", "auc", "equal_error_rate", "tar_at_far_1e-1"):
            assert scores["list"][model][number] == scores["packed"][model][number]
    assert scores["list"]["good"]["auc"] > scores["list"]["bad"]["auc"]

    with (tmp_path / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 120
    given = np.load(home / "good.npz")
    place = {name: i for i, name in enumerate(given["names"].tolist())}
    good = [line for line in lines if (line["benchmark"], line["model"]) == ("list", "good")]
    above = ties = 0
    values = []
    for line in good:  # the area under the ROC by counting
        a, b = (
            given["embeddings"][place[line[side]]].astype(float) for side in ("first", "second")
        )
        values.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert abs(values[-1] - float(line["score"])) < 1e-12
    for x, y in ((x, y) for x in values[:60] for y in values[60:]):
        above, ties = above + (x > y), ties + (x == y)
    assert abs(scores["list"]["good"]["auc"] - (above + ties / 2) / 3600) < 1e-12
    assert "data:image" in (out / "index.html").read_text()

    saved = [f"--embeddings={tmp_path / 'saved' / name}" for name in ("good", "bad")]
    more = ["--fars=0.1,0.01", "--compat=insightface", "--groups=groups.csv", "--target_far=0.2"]
    more += [f"--output={tmp_path / 'again'}", *saved]
    said = done(fork("eval.py", *SETS[::2], *more, cwd=home))
    for part in ("dark", "light", "standard deviation", "squared L2", "nowhere to write"):
        assert part in said
    again = json.loads((tmp_path / "again" / "evaluation.json").read_text())["list"]
    assert len(again.pop("fairness")["good"]["groups"]) == 2
    assert again == found["list"]  # by the embeddings that were saved
    assert not list(home.glob("**/thresholds*"))


# One process for all: what is wrong, and then the sentence, for each line of arguments.
ASKING = f"""
import contextlib, json, sys
sys.path.insert(0, {str(ROOT)!r})
import eval
from absl import flags
from facejax.errors import UserError
for arguments in json.loads(sys.argv[1]):
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS.get_key_flags_for_module("eval"):
        flag.value, flag.present = flag.default, 0
    flags.FLAGS(["eval.py", *arguments])
    try:
        eval.main(contextlib.ExitStack())
        print("no mistake")
    except UserError as error:
        print(json.dumps(str(error)))
"""

MISTAKES = [
    (["--benchmark=x=none.bin"], ["none.bin", "give a file or folder"]),
    (["--benchmark==x"], ["NAME=PATH"]),
    ([*SETS, "--benchmark=list=set.bin"], ["two benchmarks", "list"]),
    ([], ["--benchmark=NAME=PATH"]),
    (["--pairs=pairs.txt"], ["--images"]),
    (["--images=faces"], ["--pairs"]),
    ([*SETS, "--embeddings=none.npz"], ["none.npz", "can't be read"]),
    ([*SETS, "--embeddings=bad/packed.npz"], ["240 embeddings and no names", "60 images"]),
    ([*SETS, "--recognizer=none"], ["none", "sface"]),
    ([*SETS, "--step=3"], ["--step", "--checkpoint"]),
    ([*SETS, "--fars=2"], ["--fars=2"]),
    ([*SETS, "--target_far=x"], ["--target_far=x"]),
    ([*SETS, "--target_far=0.1"], ["--target_far", "one benchmark"]),
    (["--benchmark=a=set.bin", "--target_far=1e-5"], ["60 pairs of different", "1e-5"]),
    ([*SETS, "--flip", "--flip_mode=off"], ["--flip_mode=off", "--flip"]),
    ([*SETS, "--scores=a.txt"], ["a.txt", "FILE.parquet"]),
    ([*SETS, "--save_embeddings=a.npz"], ["a.npz", "2 benchmarks", "folder"]),
    ([*SETS, "--groups=none.csv"], ["none.csv"]),
    ([*SETS, "--groups=groups.csv"], ["groups.csv", "no row for '0'"]),
    ([*SETS, "--quality=groups.csv"], ["groups.csv", "no number"]),
    ([*SETS, "--output=pairs.txt/x"], ["can't write", "--output"]),
]


def test_mistakes_are_one_sentence_before_the_work(home, tmp_path):
    before = tree(home)
    (tmp_path / "asking.py").write_text(ASKING)
    given = [
        [*each, *(() if any("--embeddings" in one for one in each) else MODELS[:1])]
        for each, _ in MISTAKES
    ]
    said = done(fork(tmp_path / "asking.py", json.dumps(given), cwd=home)).splitlines()
    sentences = [json.loads(line) for line in said if line.startswith(('"', "no mistake"))]
    for (arguments, naming), sentence in zip(MISTAKES, sentences, strict=True):
        assert "\n" not in sentence
        for word in naming:
            assert word in sentence, arguments
    assert tree(home) == before, "something was written"
    finished = fork("eval.py", *SETS, *MODELS, "--scores=a.txt", cwd=home)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("error: the scores file a.txt has another suffix")


@pytest.mark.slow
def test_a_packaged_recognizer_has_its_known_accuracy(real_faces, tmp_path, monkeypatch):
    """On View 1: what the published thresholds give, and what is chosen on the other folds."""
    monkeypatch.setenv("FACEJAX_HOME", str(tmp_path / "home"))
    folder = real_faces / "lfw_dev"
    benchmark = f"--benchmark=lfw={folder / 'pairs_test.txt'}@{folder / 'test'}"
    saved = f"--save_embeddings={tmp_path / 'saved'}"
    more = ("--recognizer=sface", "--target_far=0.02")
    done(program("eval.py", *more, benchmark, saved, cwd=tmp_path))
    (found,) = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text()).values()
    accuracy = found["scores"]["SFace"]["verification_accuracy"]
    assert accuracy == pytest.approx(0.990, abs=0.003)
    rows = np.load(tmp_path / "saved" / "SFace" / "lfw.npz")
    place = {name: i for i, name in enumerate(rows["names"].tolist())}
    right = []
    for line in (folder / "pairs_test.txt").read_text().splitlines()[1:]:
        name, *rest = line.split()
        both = [(name, rest[0]), (name, rest[1])] if len(rest) == 2 else [(name, rest[0]), rest[1:]]
        a, b = (
            rows["embeddings"][place[f"{who}/{who}_{int(number):04d}.jpg"]] for who, number in both
        )
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        right.append((cosine >= 0.363) == (len(rest) == 2))
    assert np.mean(right) == pytest.approx(0.992, abs=0.002)
    (file,) = (tmp_path / "home" / "thresholds").iterdir()
    (threshold,) = json.loads(file.read_text())["thresholds"]
    assert (threshold["far"], threshold["negatives"], threshold["data"]) == (0.02, 500, "lfw")
