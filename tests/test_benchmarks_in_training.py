"""Benchmarks during training: parts of them, over all devices, by one program."""

import json
import logging

import jax
import numpy as np
import optax
import pytest

from facejax import objectives, recognition
from facejax.errors import UserError
from facejax.evaluation import ImageFiles, Protocol, verify
from facejax.evaluation.benchmarks import Benchmark, measure, open_benchmark
from facejax.evaluation.bin_file import EncodedImages, write_bin
from facejax.evaluation.ijb import LooseCrops, TemplateProtocol
from facejax.evaluation.template_files import ListedTemplates, Members
from facejax.evaluation.tinyface import GalleryProtocol
from facejax.recognition.embed import placement
from facejax.training import evaluating, from_config, log, subset
from facejax.training.config import Config
from tests import toy
from tests.pictures import encode

RANDOM = np.random.default_rng(0)


def pictures(count, size=toy.SIZE):
    return RANDOM.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def verification(images, people=12):
    """Pairs that go round, half of them of one person, in ten folds."""
    count = subset.count_images(images)
    identities = np.arange(count) % people
    same = np.arange(80) % 2 == 0
    first = np.arange(80) % count
    second = (first + np.where(same, people, 1)) % count
    folds = np.arange(80) // 8
    return Protocol("round", images, np.stack([first, second], 1), same, folds, identities)


def files_of(folder, count):
    paths = []
    for number, picture in enumerate(pictures(count)):
        paths.append(folder / f"{number % 5}_{number}.png")
        paths[-1].write_bytes(encode(picture, ".png"))
    return paths


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    """A verification of an array, a gallery of files and a verification of encoded images."""
    folder = tmp_path_factory.mktemp("gallery")
    searched = GalleryProtocol(
        "small",
        ImageFiles(files_of(folder, 31), toy.SIZE),
        np.arange(10) % 5,
        np.arange(21) % 9 - 1,
    )
    encoded = EncodedImages([encode(one, ".png") for one in pictures(24)], toy.SIZE, "set.bin")
    return [
        Benchmark("", verification(pictures(36))),
        Benchmark("tiny", searched),
        Benchmark("bin", verification(encoded)),
    ]


@pytest.fixture(scope="module")
def state():
    return toy.fresh(toy.network(), objectives.objective("cosface"), optax.sgd(0.1), 4)


def evaluated(state, planned, *, whole=False, batch_size=12):
    embedder = recognition.make_embedder(toy.network().apply, unit=False)
    return evaluating.evaluate(embedder, state, planned, batch_size=batch_size, whole=whole)


def close(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if value is None or isinstance(value, str):
            assert got[name] == value, name
        else:
            np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)


def test_eight_devices_measure_what_one_does(benchmarks, state, monkeypatch):
    planned = evaluating.plan(benchmarks, subset=0, seed=0)
    eight = evaluated(state, planned)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    one = evaluated(state, planned)
    assert placement(12)[1].mesh.size == 1
    close(eight.numbers, one.numbers)
    assert {"auc", "tiny/rank_1", "bin/verification_accuracy"} <= one.numbers.keys()
    # And what the network gives, image by image, without a batch.
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    images = benchmarks[0].protocol.images.astype(np.float32) / 127.5 - 1
    rows = np.concatenate(
        [
            np.asarray(toy.network().apply(variables, np.stack([i, i[:, ::-1]]), train=False)[0])
            .mean(axis=0, keepdims=True)
            for i in images
        ]
    )  # fmt: skip
    own = benchmarks[0].protocol
    plain = verify(rows, own.indices, own.same, own.folds, identities=own.identities)
    assert eight.numbers["auc"] == pytest.approx(plain.auc, abs=1e-3)
    assert eight.numbers["verification_accuracy"] == pytest.approx(
        plain.accuracy.accuracy, abs=0.02
    )


def test_a_batch_is_spread_over_all_devices(benchmarks, state):
    """Whatever its size: 12 is no multiple of 8."""
    shapes = set()

    def embedder(variables, images):
        shapes.add((images.shape, placement(len(images))[1].mesh.size))
        return np.zeros((len(images), 2), np.float32) + images.mean(axis=(1, 2, 3))[:, None]

    planned = evaluating.plan(benchmarks, subset=0, seed=0)
    evaluating.evaluate(embedder, state, planned, batch_size=12, whole=False)
    assert shapes == {((16, toy.SIZE, toy.SIZE, 3), 8)}


class Compilations(logging.Handler):
    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if "Compiling" in record.getMessage():
            self.names.append(record.getMessage()[:80])


def test_nothing_is_compiled_after_the_first_evaluation(benchmarks, state):
    planned = evaluating.plan(benchmarks, subset=20, seed=0)
    embedder = recognition.make_embedder(toy.network().apply, unit=False)
    seen, logger = Compilations(), logging.getLogger("jax._src.interpreters.pxla")
    logger.addHandler(seen)
    try:
        with jax.log_compiles():
            counts = []
            for whole in (False, False, True, True):
                evaluating.evaluate(embedder, state, planned, batch_size=16, whole=whole)
                counts.append(len(seen.names))
    finally:
        logger.removeHandler(seen)
    assert counts[0] > 0, "the test sees no compilation"
    assert counts[1] == counts[0]
    # The embedder sees the same batches; a search of a larger gallery is another program.
    assert not [name for name in seen.names[counts[1] :] if "program" in name]
    assert sum("jit(program)" in name or "program" in name for name in seen.names) == 1
    assert counts[3] == counts[2]


# Parts


def test_a_part_has_the_proportions_and_only_its_images(benchmarks):
    whole = benchmarks[0]
    part = subset.part_of(whole, most=20, seed=1)
    chosen = part.benchmark.protocol
    assert len(chosen.same) == 20
    assert np.bincount(chosen.folds).tolist() == [2] * 10
    assert chosen.same.sum() == 10
    assert sorted(set(chosen.indices.ravel())) == list(range(len(part.rows)))
    # Each pair is one of the whole's, with its answer.
    asked = np.column_stack([whole.protocol.indices, whole.protocol.same]).tolist()
    for question in np.column_stack([part.rows[chosen.indices], chosen.same]).tolist():
        assert question in asked
    np.testing.assert_array_equal(chosen.images, whole.protocol.images[part.rows])
    np.testing.assert_array_equal(chosen.identities, whole.protocol.identities[part.rows])
    again, other = (subset.part_of(whole, most=20, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.rows, part.rows)
    assert again.rows.tolist() != other.rows.tolist()
    assert subset.fingerprint(again.benchmark) == subset.fingerprint(part.benchmark)
    assert subset.fingerprint(other.benchmark) != subset.fingerprint(part.benchmark)


@pytest.mark.parametrize("most", [0, 80, 1000])
def test_a_part_may_be_all(benchmarks, most):
    for whole in (benchmarks[0], benchmarks[2]):
        part = subset.part_of(whole, most=most, seed=0)
        np.testing.assert_array_equal(part.benchmark.protocol.indices, whole.protocol.indices)
        assert len(part.rows) == subset.count_images(whole.protocol.images)


def test_both_kinds_of_pairs_are_in_a_part_however_rare():
    same = np.arange(1000) == 500
    protocol = verification(pictures(24))._replace(
        indices=np.arange(2000).reshape(-1, 2) % 24, same=same, folds=np.arange(1000) // 100
    )
    part = subset.part_of(Benchmark("", protocol), most=20, seed=0).benchmark.protocol
    assert part.same.sum() == 1


def test_a_gallery_keeps_whole_people(benchmarks):
    whole = benchmarks[1].protocol
    part = subset.part_of(benchmarks[1], most=5, seed=0)
    chosen = part.benchmark.protocol
    probes, gallery = part.rows[: len(chosen.probes)], part.rows[len(chosen.probes) :] - 10
    assert 0 < len(probes) <= 5
    np.testing.assert_array_equal(chosen.probes, whole.probes[probes])
    np.testing.assert_array_equal(chosen.gallery, whole.gallery[gallery])
    people = set(chosen.probes.tolist())
    for subjects, all_of in ((chosen.probes, whole.probes), (chosen.gallery, whole.gallery)):
        for one in people:
            assert (subjects == one).sum() == (all_of == one).sum()
    assert (~np.isin(chosen.gallery, list(people))).sum() == 5
    assert [*chosen.images.files] == [whole.images.files[row] for row in part.rows]


def templates(listed=True):
    """30 templates of two images each, of ten people; every two templates are a pair."""
    count = 30
    names = [f"{i}.png" for i in range(60)]
    crops = LooseCrops(None, names, np.zeros((60, 5, 2)), np.zeros((5, 2)), 8)
    members = Members(
        np.arange(60, dtype=np.int32)[::-1], np.repeat(np.arange(count, dtype=np.int32), 2),
        np.arange(60), 100 + np.arange(count),
    )  # fmt: skip
    pairs = np.stack(np.triu_indices(count, 1), axis=1).astype(np.int32)
    subjects = np.arange(count) % 10
    lists = [
        ListedTemplates(chosen.astype(np.int32), subjects[chosen])
        for chosen in (np.arange(0, 5), np.arange(5, 10), np.arange(10, 30))
    ]
    return TemplateProtocol(
        "ijb", crops, np.linspace(1, 2, 60, dtype=np.float32), members, pairs,
        subjects[pairs[:, 0]] == subjects[pairs[:, 1]],
        tuple(lists[:2]) if listed else (), lists[2] if listed else None,
    )  # fmt: skip


@pytest.mark.parametrize("listed", [True, False])
def test_templates_score_in_a_part_as_in_the_whole(listed):
    whole = templates(listed)
    part = subset.part_of(Benchmark("ijb", whole), most=20, seed=3)
    chosen = part.benchmark.protocol
    embeddings = RANDOM.standard_normal((60, 7), np.float32)
    of_part = measure(embeddings[part.rows], part.benchmark)
    of_whole = measure(embeddings, Benchmark("ijb", whole))
    pairs = map(tuple, whole.members.template_ids[whole.pairs].tolist())
    scores = dict(zip(pairs, of_whole.scores, strict=True))
    ids = chosen.members.template_ids
    for pair, score in zip(ids[chosen.pairs].tolist(), of_part.scores, strict=True):
        assert score == pytest.approx(scores[tuple(pair)], abs=1e-6)
    assert chosen.same.any()
    assert not chosen.same.all()
    assert [*chosen.images.names] == [whole.images.names[row] for row in part.rows]
    if listed:
        assert len(ids) <= 20
        listed_ids = [ids[one.templates] for one in (*chosen.galleries, chosen.probes)]
        for one, its_ids in zip((*chosen.galleries, chosen.probes), listed_ids, strict=True):
            np.testing.assert_array_equal(its_ids % 10, one.subjects)
    else:
        assert len(chosen.same) == 20


def test_an_image_of_a_part_is_named_as_in_the_file(tmp_path):
    images = [encode(one, ".png") for one in pictures(48)]
    images[41] = b"broken"
    write_bin(tmp_path / "x.bin", images, [True, False] * 12)
    whole = open_benchmark(tmp_path / "x.bin", name="x", image_size=toy.SIZE)
    taken = subset.take_images(subset.take_images(whole.protocol.images, range(30, 48)), [11])
    with pytest.raises(UserError, match=r"image 41 of x\.bin"):
        list(taken)


# Several processes, here one after another


def test_shares_are_put_together(benchmarks, monkeypatch):
    sets = [one.protocol.images for one in benchmarks]
    seen = []

    def embed(parts):
        images = np.concatenate(list(parts))
        seen.append(len(images))
        return images.reshape(len(images), -1)[:, :5].astype(np.float32)

    expected = evaluating.embed_all(embed, sets, batch_size=7)
    np.testing.assert_array_equal(expected[0], sets[0].reshape(36, -1)[:, :5])
    assert seen == [91]
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    shares = []

    def gather(rows):
        if rows.dtype == np.uint8:
            return np.stack([rows] * 4)
        shares.append(rows)
        return np.stack((shares + [rows] * 4)[:4])

    monkeypatch.setattr(evaluating.multihost_utils, "process_allgather", gather)
    for number in range(4):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        got = evaluating.embed_all(embed, sets, batch_size=7)
    assert seen[1:] == [23] * 4, "a share is as large as any other, and no image is read in vain"
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_process_that_fails_stops_all(benchmarks, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    heard = {}

    def gather(rows):
        heard["told"] = rows
        return np.stack([np.zeros_like(rows), heard.get("failed", rows)])

    def failing(_):
        raise UserError("b.png does not decode")

    monkeypatch.setattr(evaluating.multihost_utils, "process_allgather", gather)
    images = [benchmarks[0].protocol.images]
    with pytest.raises(UserError, match=r"^b\.png does not decode$"):
        evaluating.embed_all(failing, images, batch_size=4)
    heard["failed"] = heard["told"]
    with pytest.raises(UserError, match=r"^process 1 stopped: b\.png does not decode$"):
        evaluating.embed_all(lambda _: np.zeros((18, 2)), images, batch_size=4)


# Names, words and tables


def test_names_are_known_before_there_is_a_network(benchmarks, state):
    planned = evaluating.plan(benchmarks, subset=40, seed=0)
    known = evaluating.names(planned)
    found = evaluated(state, planned).numbers
    plain = {name for name, value in found.items() if isinstance(value, float | int)}
    assert plain <= known.keys()
    assert {name for name in found if found[name] is None} == {n for n in known if known[n] is None}


def test_a_line_is_taken_apart(benchmarks, state):
    planned = evaluating.plan(benchmarks, subset=0, seed=0)
    line = {"step": 4, **evaluated(state, planned).numbers}
    apart = evaluating.by_benchmark(json.loads(json.dumps(line)))
    assert list(apart) == ["", "tiny", "bin"]
    assert apart["bin"]["auc"] == line["bin/auc"]
    said = evaluating.in_words(line).splitlines()
    assert said[0].startswith("verification accuracy 0.")
    assert said[1].startswith("tiny: rank_1 0.")
    assert said[2].startswith("bin: verification accuracy 0.")
    table = log.final_table([{**line, "step": 0}, {"step": 2, "loss": 1.0}, line])
    for words in ("untrained ", "bin, trained, step 4", "rank_20"):
        assert words in table
    labels = log._training_figure([{**line, "step": 0}, line]).axes[1].get_legend_handles_labels()
    assert {"accuracy", "tiny rank_1", "bin accuracy"} <= set(labels[1])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("a=x.bin,a=x.bin", "calls one a, which another is called"),
        ("a/b=x.bin", "which has a slash"),
        ("a=nothing.bin", "no benchmark nothing"),
        ("=x.bin", "is not NAME=PATH"),
    ],
)
def test_bad_benchmarks_are_refused(tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    write_bin("x.bin", [encode(one, ".png") for one in pictures(40)], [True, False] * 10)
    config = Config()
    config.data.kind = "folder"
    config.data.image_size = 32
    config.evaluation.benchmarks = given
    with pytest.raises(UserError, match=sentence):
        from_config.evaluations(config)
    config.evaluation.benchmarks = "a=x.bin,x.bin"
    assert [one.whole.name for one in from_config.evaluations(config)] == ["a", "x"]
    config.checkpoint.best = "a/rank_1"
    with pytest.raises(UserError, match=r"checkpoint\.best: there is no number a/rank_1; choose"):
        from_config.evaluations(config)
    config.checkpoint.best = "-x/tar_at_far_1e-3"
    with pytest.raises(UserError, match=r"x/tar_at_far_1e-3 can't be measured on so few"):
        from_config.evaluations(config)
    config.checkpoint.best = "-x/equal_error_rate"
    assert len(from_config.evaluations(config)) == 2


def test_kinds_of_unequal_number_keep_their_proportion():
    same, folds = np.arange(1000) % 5 == 0, np.arange(1000) // 500
    protocol = verification(pictures(24))._replace(
        indices=np.arange(2000).reshape(-1, 2) % 24, same=same, folds=folds
    )
    part = subset.part_of(Benchmark("", protocol), most=100, seed=0).benchmark.protocol
    assert part.same.sum() == 20
    assert part.folds.sum() == 50
