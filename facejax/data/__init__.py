"""Data: sources of face images, the dataset on disk, batches on the host.

The augmentation, which is compiled into the training step, needs nothing but JAX. What reads images
needs OpenCV, grain and TFDS, and is imported when one of its names is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from facejax.data.augment import augment, normalize

if TYPE_CHECKING:
    from facejax.data.dataset import build_dataset, check_labels, dataset_source
    from facejax.data.pipeline import batches, padded_batches, read_images
    from facejax.data.sources import Source, decode, fingerprint, folder_source, identity_names

__all__ = [
    "Source",
    "augment",
    "batches",
    "build_dataset",
    "check_labels",
    "dataset_source",
    "decode",
    "fingerprint",
    "folder_source",
    "identity_names",
    "normalize",
    "padded_batches",
    "read_images",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for file in ("sources", "dataset", "pipeline"):
            module = importlib.import_module(f"facejax.data.{file}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
