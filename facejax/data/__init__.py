"""Data: sources of face images, the dataset on disk, batches on the host."""

from facejax.data.augment import augment, normalize
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
