"""Data: sources of face images, the dataset on disk, batches on the host."""

from facejax.data.augment import augment, normalize
from facejax.data.build import build_dataset
from facejax.data.dataset import check_labels, dataset_source
from facejax.data.images import IMAGE_SUFFIXES, decode, is_hidden, is_image
from facejax.data.pipeline import batches, padded_batches, read_images
from facejax.data.sources import Source, fingerprint, folder_source, identity_names

__all__ = [
    "IMAGE_SUFFIXES",
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
    "is_hidden",
    "is_image",
    "normalize",
    "padded_batches",
    "read_images",
]
