"""A recognizer: a trained network with its weights and what has to be known to use it."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from facejax import checkpoints, models
from facejax.recognition.embed import Embedder, embed, make_embedder


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """Aligned face images in, embeddings out; made by `load`.

    Attributes:
      image_size: side S in pixels of the images that the network was trained on.
      embedding_size: length D of an embedding.
      flip: whether the mirror image's embedding is added.
      step: of the checkpoint.
      directory: the checkpoints that the weights came from.
      facts: what the checkpoint says of its run: `architecture`, `num_classes`, `config`.
      passed_over: a sentence on each newer checkpoint, all of them damaged.
    """

    image_size: int
    embedding_size: int
    flip: bool
    step: int
    directory: pathlib.Path
    facts: checkpoints.Facts
    passed_over: tuple[str, ...]
    _embedder: Embedder = dataclasses.field(repr=False)
    _variables: Any = dataclasses.field(repr=False)

    def embed(
        self, images: np.ndarray | Iterable[np.ndarray], *, batch_size: int = 100
    ) -> np.ndarray:
        """Unit vectors float32 [N, D] of RGB images; see `facejax.recognition.embed`.

        Args:
          images: uint8 [N, S, S, 3], or an iterable of uint8 arrays [b, S, S, 3] with
            b <= batch_size.
          batch_size: images per call of the network; for another one it is compiled anew.

        Raises:
          ValueError: as `facejax.recognition.embed`.
        """
        return embed(self._embedder, self._variables, images, batch_size=batch_size)


def load(workdir: str | pathlib.Path, *, step: int | None = None, flip: bool = True) -> Recognizer:
    """The recognizer that a training run has made.

    Args:
      workdir: of the run, or its checkpoints folder.
      step: which of its checkpoints; None is the newest that is whole.
      flip: whether to add the mirror image's embedding (the flip test).

    Returns:
      Recognizer, with the weights on this process's first device; nothing is compiled yet.

    Raises:
      UserError: there is no checkpoint, not that step, or it is damaged or not one of facejax.
    """
    directory = pathlib.Path(workdir)
    if (directory / "checkpoints").is_dir():
        directory = directory / "checkpoints"
    saved = checkpoints.open_existing(directory)
    passed_over: tuple[str, ...] = ()
    if step is None:
        step, restored, passed_over = checkpoints.newest_whole(
            saved, functools.partial(checkpoints.restore_network, saved)
        )
    else:
        restored = checkpoints.restore_network(saved, checkpoints.choose_step(saved, step))
    params, batch_stats, facts = restored
    saved.close()
    network = models.network(**facts["architecture"])
    return Recognizer(
        image_size=facts["config"]["data"]["image_size"],
        embedding_size=facts["architecture"]["embedding_size"],
        flip=flip,
        step=step,
        directory=directory,
        facts=facts,
        passed_over=passed_over,
        _embedder=make_embedder(network.apply, flip=flip),
        _variables={"params": params, "batch_stats": batch_stats},
    )
