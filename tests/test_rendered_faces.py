"""Detection and quality on rendered faces, of which the truth is known."""

import concurrent.futures
import shutil

import cv2
import numpy as np
import pytest

from facejax.recognition import packages
from facejax.recognition.align import crop_faces
from facejax.recognition.detection import YuNet
from facejax.recognition.quality import Quality, blur, measure, pose, reasons
from facejax.recognition.templates import ARCFACE
from tests.rendered import BLURS, KEPT, YAWS, all_rendered, kept, yunet_or_skip

FINE = Quality(60.0, 0.02, 3.0, -4.0, 2.0, 120.0, 40.0)


@pytest.fixture(scope="module")
def series():
    """Of two people the blurs, then the yaws."""
    return np.stack(
        [
            [kept(person, blur=blur) for blur in BLURS] + [kept(person, yaw=yaw) for yaw in YAWS]
            for person in (3, 10)
        ]
    )


@pytest.fixture(scope="module")
def people():
    return [kept(person) for person in (3, 10, 14, 22)]


@pytest.fixture(scope="module")
def yunet():
    return yunet_or_skip()


@pytest.mark.slow
def test_the_faces_that_are_kept_are_those_of_the_renderer():
    for made, name in zip(all_rendered().astype(int), KEPT, strict=True):
        person, blurred, yaw = name
        difference = np.abs(made - kept(person, blur=blurred, yaw=yaw))
        assert difference.max() <= 2, f"{name}: run python -m tests.rendered"


def test_rendered_faces_are_found(yunet, people, tmp_path, capfd):
    """A close-up and faces of 24 pixels in one photo of 12 megapixels, and what is beside them."""
    photo = np.full((3000, 4000, 3), (90, 110, 100), np.uint8)
    photo[:, ::2] += 9
    photo[300:2300, 200:2200] = cv2.resize(people[0], (2000, 2000), interpolation=cv2.INTER_CUBIC)
    corners = [(2500, 100), (3939, 2939), (2700, 1500), (300, 2900), (3333, 2222), (3200, 960)]
    for number, (x, y) in enumerate(corners):
        small = cv2.resize(people[number % 4], (50, 50), interpolation=cv2.INTER_AREA)
        photo[y : y + 50, x : x + 50] = small
    found = yunet(photo)
    widths = found.boxes[:, 2]
    print(np.column_stack([widths, found.scores]).round(2))
    assert len(widths) == 7
    assert (np.sort(widths)[:6] < 32).all()
    assert 800 < widths.max() < 1400
    middles = found.boxes[:, :2] + found.boxes[:, 2:] / 2
    for x, y in corners:
        assert (np.abs(middles - (x + 25, y + 28)).max(1) < 8).sum() == 1
    for box, five in zip(found.boxes, found.landmarks, strict=True):
        left, right, nose, low_left, low_right = (five - box[:2]) / box[2:]
        assert left[0] < nose[0] < right[0]
        assert low_left[0] < low_right[0]
        assert max(left[1], right[1]) < nose[1] < min(low_left[1], low_right[1])

    # OpenCV says nothing on the terminal, neither when the network is made.
    path = shutil.copy(packages.locate(packages.YUNET), tmp_path / "modèle.onnx")
    again = YuNet(path)(people[0])
    assert capfd.readouterr().err == ""
    assert len(again.scores) == 1


def test_threads_and_other_sizes_change_nothing(yunet, people):
    sizes = [(112, 112), (150, 200), (64, 90), (300, 200)]
    photos = [
        cv2.resize(face, size, interpolation=cv2.INTER_AREA) for face in people for size in sizes
    ]
    alone = [YuNet()(photo) for photo in photos]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(yunet, photos * 2))
    for a, b in zip(alone * 2, together, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
    assert sum(len(found.scores) for found in alone) >= 14


def test_rendered_blur_is_measured(series):
    """Known to the renderer in pixels; what a rendered edge has of its own adds in squares."""
    template = ARCFACE * 0.72 + 14  # about where a rendered face's landmarks are
    eyes = np.linalg.norm(template[1] - template[0])
    for person in series:
        measured = np.array([blur(image, template) for image in person[: len(BLURS)]])
        known = 112 * np.array(BLURS) / eyes
        wanted = np.sqrt(known**2 + measured[0] ** 2)
        print(np.round(measured, 4), np.round(wanted, 4))
        assert (np.diff(measured) > 0).all()
        np.testing.assert_allclose(measured, wanted, rtol=0.3)
        assert not reasons(FINE._replace(blur=measured[0]))
        assert "blurred" in reasons(FINE._replace(blur=measured[-1]))[0]


def test_rendered_heads_turn(yunet, series):
    """The angle grows with the one rendered; landmarks by the detector."""
    for person in series:
        faces = [yunet(cv2.resize(image, (224, 224))) for image in person[len(BLURS) :]]
        yaws = pose(np.stack([face.landmarks[0] for face in faces]))[:, 0]
        print(np.round(yaws), np.degrees(YAWS).round())
        assert (np.diff(yaws) > 0).all()
        assert np.abs(yaws - np.degrees(YAWS)).max() < 25
        turned = [bool(reasons(FINE._replace(yaw=yaw), maximum_yaw=30)) for yaw in yaws]
        assert turned[::2] == [True, False, True]


def test_a_face_seen_smaller_is_more_blurred_and_smaller(series):
    """Down to 8 pixels between the eyes and up again, as a distant face is."""
    image = cv2.resize(series[0, 0], (448, 448), interpolation=cv2.INTER_CUBIC)
    points = (ARCFACE * 0.72 + 14) * 4
    found = []
    for size in (448, 224, 112, 56, 36):
        photo = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        here = ((points + 0.5) * size / 448 - 0.5)[None]
        found += measure(here, crop_faces(photo, here, ARCFACE, 112), ARCFACE)
    sizes, blurs = ([getattr(one, name) for one in found] for name in ("size", "blur"))
    assert sizes == sorted(sizes, reverse=True)
    assert blurs[1:] == sorted(blurs[1:])
    np.testing.assert_allclose(
        np.array(sizes) / sizes[0], np.array([448, 224, 112, 56, 36]) / 448, rtol=0.01
    )
