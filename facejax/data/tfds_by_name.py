"""Any TFDS dataset that is prepared on this machine, by its name; and a builder for LFW."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from facejax import files
from facejax.data.dataset import first_line
from facejax.data.labels import Numbering
from facejax.data.sources import folder_source
from facejax.errors import UserError


class TfdsSource:
    """The records of a TFDS dataset; build it with `tfds_source`."""

    def __init__(
        self,
        name: str,
        records: Any,
        image: str,
        labels: np.ndarray,
        names: tuple[str, ...],
    ) -> None:
        self._name, self._records, self._image = name, records, image
        self.labels = labels
        self.identity_names = names

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            image = self._records[int(index)][self._image]
        except (OSError, RuntimeError) as error:
            raise _damaged(self._name, error) from error
        name = f"{self._name}:{index}"
        return {"image": image, "label": int(self.labels[index]), "id": name}


def tfds_source(
    name: str, *, directory: files.Path | None = None, progress: bool = False
) -> TfdsSource:
    """A TFDS dataset as a source, in the order of its records, all of which are read once.

    It must have been prepared as array_record, which is what is read without TensorFlow; nothing is
    downloaded. There must be one image and one label, a class, a number or a text.

    Args:
      name: `NAME[/CONFIG][:SPLIT]`, the split `train` where none is given.
      directory: of TFDS's datasets; None is where TFDS keeps them (`$TFDS_DATA_DIR`).
      progress: show a progress bar on stderr if it takes a while.

    Returns:
      A source whose `[i]` is `{"image": encoded bytes, "label": int, "id": "lfw:train:0"}`.

    Raises:
      UserError: there is no such dataset, split, image or label, or it cannot be read.
    """
    dataset, _, split = name.partition(":")
    split = split or "train"
    where = None if directory is None else str(files.expand(directory))
    try:
        parsed, options = tfds.core.naming.parse_builder_name_kwargs(dataset, data_dir=where)
        # what is on the disk, whatever TFDS's own code of that name would make
        builder = tfds.core.read_only_builder.builder_from_files(str(parsed), **options)
        features = builder.info.features
        image = _only(features, tfds.features.Image, name, "image")
        label = _label_of(features, name)
        records = builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding()})
        labels = Numbering()
        for record in tqdm.tqdm(records, "reading labels", delay=3, disable=not progress):
            value = record[label]
            if isinstance(features[label], tfds.features.ClassLabel):
                labels.add(features[label].int2str(int(value)))
            else:
                labels.add(value.decode() if isinstance(value, bytes) else int(value))
    except UserError:
        raise
    except Exception as error:  # TFDS, protobuf and array_record each raise their own
        raise _damaged(name, error) from error
    if not len(labels):
        raise UserError(f"the TFDS dataset {name} is empty: give another split.")
    numbers, names = labels.finish()
    return TfdsSource(f"{dataset}:{split}", records, image, numbers, names)


def build_lfw(folder: files.Path, directory: files.Path) -> pathlib.Path:
    """Makes the TFDS dataset `lfw` of the extracted archive, without TensorFlow.

    Args:
      folder: what came out of the archive, `folder/<Name>/<Name>_0001.jpg`; `~` is the home.
      directory: of TFDS's datasets; `tfds_source("lfw", directory=directory)` reads it then.

    Returns:
      The folder of the dataset.

    Raises:
      UserError: the folder has no identities, or the dataset cannot be written.
    """
    tfds.disable_progress_bar()
    builder = _Lfw(files.expand(folder), data_dir=str(files.expand(directory)))
    with files.refusing(directory, "give another directory"):
        builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


class _Lfw(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Labeled Faces in the Wild, people and their images in sorted order."""

    VERSION = tfds.core.Version("1.0.0")
    name = "lfw"

    def __init__(self, folder: pathlib.Path, *, data_dir: str) -> None:
        self._source = folder_source(folder)
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=list(self._source.identity_names)),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            features=features,
            homepage="http://vis-www.cs.umass.edu/lfw",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(len(self._source)):
            record = self._source[index]
            yield index, {"image": record["image"], "label": record["label"]}


def _only(features: Any, kind: type, name: str, what: str) -> str:
    found = [key for key, feature in features.items() if type(feature) is kind]
    if len(found) != 1:
        raise UserError(
            f"the TFDS dataset {name} has {len(found)} features that could be the {what} "
            f"({', '.join(features)}): give a dataset with one."
        )
    return found[0]


def _label_of(features: Any, name: str) -> str:
    if "label" in features:
        return "label"
    return _only(features, tfds.features.ClassLabel, name, "label")


def _damaged(name: str, error: Exception) -> UserError:
    return UserError(
        f"the TFDS dataset {name} cannot be read ({first_line(error)}): prepare it as array_record "
        "with TFDS, or give another name."
    )
