"""Data: sources of face images, the dataset on disk, batches on the host.

The augmentation, which is compiled into the training step, needs nothing but JAX. What reads images
needs OpenCV, grain and TFDS, and is imported when one of its names is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from facejax.data.augment import augment, normalize
from facejax.data.presets import PRESETS, preset
from facejax.data.resampling import RESAMPLING

if TYPE_CHECKING:
    from facejax.data.build import build_dataset
    from facejax.data.dataset import check_labels, dataset_source
    from facejax.data.images import IMAGE_SUFFIXES, decode, is_hidden, is_image
    from facejax.data.lists import list_source
    from facejax.data.open import Place, open_place, open_source, source_places
    from facejax.data.packed import pack_dataset, packed_source
    from facejax.data.parquet import parquet_source
    from facejax.data.pipeline import batches, padded_batches, read_images
    from facejax.data.recordio import recordio_source
    from facejax.data.recordio_writer import write_recordio
    from facejax.data.sources import Source, fingerprint, folder_source, identity_names
    from facejax.data.tars import tar_source
    from facejax.data.tfds_by_name import build_lfw, tfds_source
    from facejax.data.unreadable import fault
    from facejax.data.views import join_sources, select, select_records

__all__ = [
    "IMAGE_SUFFIXES",
    "PRESETS",
    "RESAMPLING",
    "Place",
    "Source",
    "augment",
    "batches",
    "build_dataset",
    "build_lfw",
    "check_labels",
    "dataset_source",
    "decode",
    "fault",
    "fingerprint",
    "folder_source",
    "identity_names",
    "is_hidden",
    "is_image",
    "join_sources",
    "list_source",
    "normalize",
    "open_place",
    "open_source",
    "pack_dataset",
    "packed_source",
    "padded_batches",
    "parquet_source",
    "preset",
    "read_images",
    "recordio_source",
    "select",
    "select_records",
    "source_places",
    "tar_source",
    "tfds_source",
    "write_recordio",
]

_FILES = (
    *("images", "sources", "dataset", "build", "pipeline", "unreadable"),
    *("recordio", "recordio_writer", "lists", "views", "open"),
    *("packed", "parquet", "tars", "tfds_by_name"),
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for file in _FILES:
            module = importlib.import_module(f"facejax.data.{file}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
