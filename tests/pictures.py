"""Pictures, folders of them, and sources, small enough for a test."""

import pathlib

import cv2
import numpy as np


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth RGB image, which JPEG changes little."""
    small = np.random.default_rng(seed).integers(40, 215, (4, 4, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def write_folder(root: pathlib.Path, counts: dict[str, int], size: int = 16) -> pathlib.Path:
    """Writes `counts[name]` JPEGs for each name, every one different."""
    for person, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(1, count + 1):
            image = encode(smooth(size, size, seed=100 * person + number), ".jpg")
            (root / name / f"{name}_{number:04d}.jpg").write_bytes(image)
    return root


def jpeg(**options: int) -> bytes:
    """A JPEG of some detail, so that its second half is not all alike."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    image = cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC)
    flags = [number for key, value in options.items() for number in (getattr(cv2, key), value)]
    return cv2.imencode(".jpg", image, flags)[1].tobytes()


def zero_tail(data: bytes, end: bytes) -> bytes:
    """The file of a download that was interrupted after its room was made."""
    half = len(data) // 2
    return data[:half] + bytes(len(data) - half - len(end)) + end


JPEGS = {
    "baseline": jpeg(),
    "progressive": jpeg(IMWRITE_JPEG_PROGRESSIVE=1),
    "optimised": jpeg(IMWRITE_JPEG_OPTIMIZE=1),
    "with restarts": jpeg(IMWRITE_JPEG_RST_INTERVAL=4),
}


class Arrays:
    """A source of arrays in memory, without ids, names or a fingerprint."""

    def __init__(self, images: np.ndarray, labels: list[int], num_classes: int):
        self.images, self.labels = images, np.asarray(labels, np.int32)
        self.num_classes = num_classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.images[index], "label": int(self.labels[index])}


def visible(directory: pathlib.Path) -> list[str]:
    notes = (".lock", ".hashes.npz")  # about the datasets, and none themselves
    return sorted(entry.name for entry in directory.iterdir() if not entry.name.endswith(notes))


def assert_one_sentence(message: str) -> None:
    assert message.endswith(".")
    assert ". " not in message
    assert "\n" not in message


class Faces:
    """A source as far as its labels and names."""

    def __init__(self, names, labels):
        self.identity_names, self.labels = tuple(names), np.asarray(labels, np.int32)
        self.num_classes = len(self.identity_names)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"label": int(self.labels[index]), "image": self.labels[index]}
