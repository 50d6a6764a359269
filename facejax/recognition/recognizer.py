"""A recognizer: a network with its weights and what has to be known to use it."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from facejax.errors import UserError
from facejax.recognition.card import Card
from facejax.recognition.embed import (
    SMALLER_BATCHES,
    Embedder,
    embed,
    make_embedder,
    placement,
)
from facejax.recognition.stored_thresholds import stored_thresholds, thresholds_path
from facejax.recognition.templates import Size
from facejax.recognition.thresholds import Threshold

if TYPE_CHECKING:
    from facejax.recognition.detection import Detector
    from facejax.recognition.faces import Faces
    from facejax.recognition.photos import Photos


@dataclasses.dataclass(frozen=True, eq=False)
class Recognizer:
    """Aligned crops of faces in, embeddings out; made by `facejax.recognition.open`.

    Attributes:
      card: what has to be known of the network; `image_size`, `embedding_size` and `flip` are its.
      directory: where the weights came from: a run's checkpoints, or a file.
      step: of the run's checkpoint; 0 where it is of no run.
      facts: what a run's checkpoint says of it: `architecture`, `num_classes`, `config`; else {}.
      passed_over: a sentence on each newer checkpoint of the run, all of them damaged.
    """

    card: Card
    directory: pathlib.Path
    step: int
    facts: dict[str, Any] = dataclasses.field(repr=False)
    passed_over: tuple[str, ...]
    # Of (flip, unit), the program; and of a sharding, the variables under it.
    _embedder: Callable[[bool, bool], Embedder] = dataclasses.field(repr=False)
    _variables: Callable[[jax.sharding.Sharding], Any] = dataclasses.field(repr=False)
    # Whether each size of a batch is compiled, so that there had better be few.
    _compiled: bool = dataclasses.field(repr=False)

    @property
    def image_size(self) -> Size:
        return self.card.image_size

    @property
    def embedding_size(self) -> int:
        return self.card.embedding_size

    @property
    def flip(self) -> bool:
        return self.card.flip

    @property
    def thresholds_path(self) -> pathlib.Path:
        """Where its own thresholds lie, or would: RUN/thresholds.json, else in facejax's home."""
        return thresholds_path(self.card, run=self._run)

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The calibrated thresholds: a person's own, else the shipped ones, else ().

        Raises:
          UserError: its file is damaged, or was calibrated for other weights.
        """
        return stored_thresholds(self.card, run=self._run)

    @property
    def _run(self) -> pathlib.Path | None:
        """The workdir of the run whose network it is."""
        if not self.facts:
            return None
        return self.directory.parent if self.directory.name == "checkpoints" else self.directory

    def embed(
        self,
        crops: np.ndarray | Iterable[np.ndarray],
        *,
        batch_size: int = 32,
        flip: bool | None = None,
        unit: bool | None = None,
    ) -> np.ndarray:
        """The embeddings of crops that are aligned to the card's template.

        Order of colors and normalisation are seen to here. A batch is spread over this process's
        devices where their number divides it; the last is padded to 1, 8 or `batch_size` crops
        where it is computed by XLA, and so compiled for its size.

        Args:
          crops: RGB, uint8 [N, H, W, 3] of the card's size, or an iterable of such arrays
            [b, H, W, 3] with b <= batch_size, for more crops than memory holds.
          batch_size: crops per call of the network; for another one it is compiled anew.
          flip: whether to take the mean with the mirror image's embedding; None is the card's.
          unit: whether to make unit vectors; without, they are what the network gives. None is the
            card's.

        Returns:
          float32 [N, D] on the host, in order; of an array without crops, [0, D].

        Raises:
          UserError: the crops are of another size or type than the card's.
          ValueError: an iterable gives no crops, or too many at a time.
        """
        if isinstance(crops, np.ndarray):
            self._check(crops)
            if not len(crops):
                return np.zeros((0, self.embedding_size), np.float32)
            checked: np.ndarray | Iterator[np.ndarray] = crops
        else:
            checked = (self._check(part) for part in crops)
        return embed(
            self._embedder(
                self.card.flip if flip is None else flip, self.card.unit if unit is None else unit
            ),
            self._variables(placement(batch_size)[0]),
            checked,
            batch_size=batch_size,
            smaller=[
                size
                for size in (SMALLER_BATCHES if self._compiled else range(1, batch_size))
                if size < batch_size
            ],
        )

    def faces(
        self,
        photos: "Photos",
        *,
        detector: "Detector | None" = None,
        batch_size: int = 32,
        flip: bool | None = None,
        keep_crops: bool = False,
    ) -> "Faces":
        """The faces of photographs, found, aligned to the card and embedded.

        Args:
          photos: a photo or several, or folders of them: paths, encoded bytes, or uint8 RGB
            [H, W, 3].
          detector: what finds the faces; None is YuNet.
          batch_size: faces that are embedded at a time, of several photos.
          flip: whether to take the mean with the mirror image's embedding; None is the card's.
          keep_crops: whether the aligned crops are kept.

        Returns:
          `facejax.recognition.Faces`; a photo that can't be read is in its `skipped`.

        Raises:
          UserError: no detector is installed.
        """
        from facejax.recognition.faces import find_faces  # here: OpenCV comes with it

        return find_faces(
            photos,
            self,
            detector=detector,
            batch_size=batch_size,
            flip=flip,
            keep_crops=keep_crops,
        )

    def _check(self, crops: np.ndarray) -> np.ndarray:
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != self.card.shape:
            height, width, _ = self.card.shape
            raise UserError(
                f"{self.card.name} takes uint8 RGB crops [N, {height}, {width}, 3], not "
                f"{crops.dtype} {list(crops.shape)}: align the faces to its card"
            )
        return crops


def of_network(
    card: Card,
    apply: Callable[..., Any],
    variables: Any,
    *,
    directory: pathlib.Path,
    step: int = 0,
    facts: dict[str, Any] | None = None,
    passed_over: tuple[str, ...] = (),
) -> Recognizer:
    """A recognizer of a network of ours.

    Args:
      card: what it is to be given.
      apply: of `facejax.models.Network`.
      variables: its, on the host or a device.
      directory: where they came from.
      step: of the run's checkpoint.
      facts: of the run's checkpoint.
      passed_over: newer checkpoints.
    """
    embedders = functools.cache(
        lambda flip, unit: make_embedder(apply, flip=flip, unit=unit, prepare=preparation(card))
    )
    placed = functools.cache(lambda sharding: jax.device_put(variables, sharding))
    return Recognizer(card, directory, step, facts or {}, passed_over, embedders, placed, True)


def preparation(card: Card) -> Callable[[jax.Array], jax.Array]:
    """What makes crops ready for a network: (uint8 RGB [B, H, W, 3]) -> float32, in XLA.

    Args:
      card: the network's.
    """
    mean = np.array(card.mean, np.float32).reshape(1, 1, 1, -1)
    divisor = 1 / card.scale

    def prepare(crops: jax.Array) -> jax.Array:
        ordered = crops[..., ::-1] if card.color == "bgr" else crops
        centered = ordered.astype(jnp.float32) - mean
        # 1 / 127.5 is no float32, but 127.5 is: so a run's images are what they were in training.
        if np.float32(divisor) == divisor:
            return centered / np.float32(divisor)
        return centered * np.float32(card.scale)

    return prepare
