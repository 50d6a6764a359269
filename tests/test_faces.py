"""From photographs to embedded faces: order, batches, compilations, memory, what is skipped."""

import dataclasses
import gc
import itertools
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition import align
from facejax.recognition.detection import Detection
from facejax.recognition.faces import find_faces, iter_faces
from facejax.recognition.photos import read_photo
from facejax.recognition.templates import ARCFACE
from tests.pictures import assert_one_sentence, encode, smooth
from tests.rendered import yunet_or_skip

SIZE = (28, 24)
TEMPLATE = ARCFACE * 0.25 - np.float32([2, 0])


@dataclasses.dataclass(frozen=True)
class Card:
    template = TEMPLATE
    image_size = SIZE


class Toy:
    """Embeds by a fixed matrix, compiled; counts its traces and remembers its batches."""

    card = Card()

    def __init__(self):
        self.batches, self.traces = [], 0
        matrix = np.random.default_rng(0).normal(size=(28 * 24 * 3, 6)).astype(np.float32)

        @jax.jit
        def program(crops):
            self.traces += 1
            return crops.reshape(len(crops), -1).astype(jnp.float32) @ jnp.asarray(matrix)

        self.program = program

    def embed(self, crops, *, flip=False, batch_size=32):
        assert len(crops) <= batch_size
        assert crops.dtype == np.uint8
        self.batches.append(len(crops))
        crops = crops[:, :, ::-1] if flip else crops
        return self.program(crops)


ONE = Toy()  # compiled for one face at a time


def photo_of(count, seed):
    """A photo whose first pixel says how many faces `toy_detector` finds in it."""
    photo = smooth(60 + 3 * seed % 50, 90, seed=seed)
    photo[0, 0] = count
    return photo


def toy_detector(photo):
    """Faces anywhere, in no order, one pixel of the photo for each: a stand-in without a model."""
    count = int(photo[0, 0, 0])
    rng = np.random.default_rng(count)
    x, y, scale = rng.uniform(0, 60, count), rng.uniform(0, 40, count), rng.uniform(0.5, 3, count)
    corners = np.stack([x, y], 1)[:, None]
    return Detection(
        np.stack([x, y, 24 * scale, 28 * scale], 1),
        corners + scale[:, None, None] * TEMPLATE,
        rng.uniform(0.7, 1, count),
    )


def reference(photo):
    """One photo, one face at a time: what has to come out whatever it is batched with."""
    detection = toy_detector(photo)
    order = np.argsort(detection.boxes[:, 0] + detection.boxes[:, 2] / 2)
    for place in order:
        crop = align.crop_faces(photo, detection.landmarks[place][None], TEMPLATE, SIZE)
        yield detection.boxes[place], crop[0], np.asarray(ONE.embed(crop))[0]


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_agrees_with_one_face_at_a_time(batch_size):
    counts = [2, 0, 7, 1, 40, 0, 3, 1]
    photos = [photo_of(count, seed) for seed, count in enumerate(counts)]
    options = {"detector": toy_detector, "batch_size": batch_size, "keep_crops": True}
    faces = find_faces(photos, Toy(), **options)
    assert len(faces) == sum(counts)
    assert faces.embeddings.shape == (sum(counts), 6)
    assert faces.skipped == []
    assert [len(photo.faces) for photo in faces.photos] == counts
    assert [photo.size for photo in faces.photos] == [photo.shape[:2] for photo in photos]
    position = 0
    for number, photo in enumerate(photos):
        for place, (box, crop, embedding) in enumerate(reference(photo)):
            face = faces[position]
            assert (face.source, face.number) == (f"photo {number}", place)
            np.testing.assert_allclose(face.box, box, rtol=1e-6)
            # A batch of another size is another program, which may round a tie the other way.
            assert np.abs(face.crop.astype(int) - crop).max() <= 1
            assert (face.crop != crop).mean() < 0.005
            np.testing.assert_allclose(face.embedding, embedding, rtol=1e-3, atol=20)
            assert face.embedding.dtype == np.float32
            assert face.landmarks.shape == (5, 2)
            assert 0.7 <= face.score <= 1
            position += 1
    assert faces[3:5] == tuple(faces)[3:5]
    assert "54 in 8 photos" in repr(faces)


def test_batches_have_few_sizes_and_nothing_recompiles():
    """After the first of each size; faces of several photos share a batch."""
    toy = Toy()
    align._warper.cache_clear()
    rng = np.random.default_rng(0)
    for repeat in range(3):
        counts = rng.integers(0, 9, 20)
        photos = (photo_of(count, seed) for seed, count in enumerate(counts))
        toy.batches.clear()
        faces = find_faces(photos, toy, detector=toy_detector, batch_size=16)
        assert len(faces) == counts.sum()
        full, rest = divmod(int(counts.sum()), 16)
        assert toy.batches[:full] == [16] * full
        assert toy.batches[full:] == [n for n in (1, 8, 16) if n >= rest > 0][:1]
        find_faces(photo_of(1 + 4 * repeat, 0), toy, detector=toy_detector, batch_size=16)
    assert set(toy.batches) <= {1, 8, 16}
    assert toy.traces <= 3
    assert align._warper(SIZE, "black")._cache_size() <= 6
    warped = align._warper(SIZE, "black")._cache_size()
    traced = toy.traces
    find_faces([photo_of(7, seed) for seed in range(30)], toy, detector=toy_detector, batch_size=16)
    assert (toy.traces, align._warper(SIZE, "black")._cache_size()) == (traced, warped)


def test_flip_is_the_recognisers():
    photo = photo_of(3, 0)
    given = [
        find_faces(photo, Toy(), detector=toy_detector, flip=flip).embeddings
        for flip in (None, False, True)
    ]
    np.testing.assert_array_equal(given[0], given[1])
    assert np.abs(given[0] - given[2]).max() > 1


def test_a_bad_photo_is_skipped_and_the_others_go_on(tmp_path):
    good = encode(photo_of(2, 1), ".png")
    names = {"a.png": good, "b.jpg": b"", "c.png": good[: len(good) // 2], "d.png": good}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "none").mkdir()
    given = [tmp_path, tmp_path / "gone.jpg", b"nothing", photo_of(1, 2), tmp_path / "none"]
    faces = find_faces(given, Toy(), detector=toy_detector)
    assert [face.source for face in faces] == [
        *[str(tmp_path / "a.png")] * 2,
        *[str(tmp_path / "d.png")] * 2,
        "photo 3",
    ]
    skipped = [str(tmp_path / name) for name in ("b.jpg", "c.png", "gone.jpg")]
    skipped += ["photo 2", str(tmp_path / "none")]
    assert [source for source, _ in faces.skipped] == skipped
    for source, reason in faces.skipped:
        assert source in reason
        assert_one_sentence(reason)
    assert len(faces.photos) == 8


def test_landmarks_without_a_crop_skip_their_photo():
    def broken(photo):
        found = toy_detector(photo)
        return found._replace(landmarks=np.full_like(found.landmarks, np.nan))

    faces = find_faces(photo_of(2, 0), Toy(), detector=broken)
    assert len(faces) == 0
    assert "landmarks of face 0" in faces.skipped[0][1]
    assert faces.embeddings.shape == (0, 0)


def test_nothing_at_all(tmp_path):
    for given in ([], [photo_of(0, 0)], tmp_path):
        faces = find_faces(given, Toy(), detector=toy_detector)
        assert (len(faces), faces.embeddings.size) == (0, 0)


def test_a_fault_of_the_detector_is_raised():
    def faulty(photo):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        find_faces([photo_of(1, 0)] * 3, Toy(), detector=faulty)
    with pytest.raises(ValueError, match="batch_size"):
        find_faces(photo_of(1, 0), Toy(), detector=toy_detector, batch_size=0)

    class Wrong(Toy):
        def embed(self, crops):
            return np.zeros((len(crops), 2, 2))

    with pytest.raises(ValueError, match=r"not \[N, D\]"):
        find_faces(photo_of(1, 0), Wrong(), detector=toy_detector)


@pytest.mark.parametrize("faces_each", [0, 2])
def test_what_is_held_does_not_grow(faces_each):
    """Of 120 photos few are alive at a time, and few are taken ahead of what has come out."""
    alive, most, taken = 0, 0, 0
    lock = threading.Lock()

    def died():
        nonlocal alive
        with lock:
            alive -= 1

    def photos():
        nonlocal alive, most, taken
        for seed in range(120):
            photo = photo_of(faces_each, seed % 7)
            weakref.finalize(photo, died)
            with lock:
                alive += 1
                taken += 1
                most = max(most, alive)
            yield photo

    options = {"detector": toy_detector, "batch_size": 8, "workers": 4}
    results = iter_faces(photos(), Toy(), **options)
    for number, result in enumerate(results):
        assert result.source == f"photo {number}"
        assert taken <= number + 1 + 8 + 8 + 1
        del result
    gc.collect()
    assert (number, taken, alive) == (119, 120, 0)
    assert most <= 12


def test_photos_without_faces_do_not_hold_up_those_with():
    """A batch that doesn't fill is embedded after a while."""
    counts = itertools.chain([1], itertools.repeat(0))
    photos = (photo_of(count, 0) for count in counts)
    results = iter_faces(photos, Toy(), detector=toy_detector, batch_size=4)
    assert len(next(results).faces) == 1
    results.close()


def test_rendered_and_real_people_end_to_end(real_faces):
    """With YuNet: every face of the photographs, measured and cropped as one expects."""
    yunet = yunet_or_skip()

    class At112(Toy):
        card = type("Card", (), {"template": ARCFACE, "image_size": 112})

        def embed(self, crops):
            small = crops.reshape(len(crops), 16, 7, 16, 7, 3).mean((2, 4, 5)).reshape(-1, 256)
            small = small - small.mean(1, keepdims=True)
            return small / (np.linalg.norm(small, axis=1, keepdims=True) + 1e-9)

    names = ("multiface.jpg", "group.jpg")
    faces = find_faces(
        [real_faces / "photos" / name for name in names], At112(), detector=yunet, keep_crops=True
    )
    assert [face.number for face in faces] == [*range(6)] * 2
    # Rough as it is, aligned faces are alike: all of them against one turned upside down.
    mean = faces.embeddings.mean(0)
    assert (faces.embeddings @ mean).min() > 0
    for face in faces:
        assert face.quality.size > 30
        assert face.quality.blur < 0.05
        again = align.crop_faces(read_photo(face.source), face.landmarks[None], ARCFACE, 112)
        assert np.abs(face.crop.astype(int) - again[0]).max() <= 1


def test_a_user_error_of_the_default_detector_is_one_sentence(monkeypatch):
    def missing():
        raise UserError("there is no face detector.")

    monkeypatch.setattr("facejax.recognition.faces.default_detector", missing)
    with pytest.raises(UserError, match="no face detector"):
        find_faces(photo_of(0, 0), Toy())
