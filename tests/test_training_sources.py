"""What a run trains on makes no difference but by its images: two forms, one run, to the bit."""

import numpy as np
import pytest

from facejax.data import folder_source, write_recordio
from tests.pictures import write_folder
from tests.programs import done, parameters, program


@pytest.mark.slow
def test_a_folder_and_its_recordio_train_the_same_parameters(tmp_path):
    faces = write_folder(tmp_path / "faces", {f"person {i}": 3 + i % 3 for i in range(8)}, size=32)
    write_recordio(folder_source(faces), tmp_path / "rec", progress=False)
    ends = []
    for number, path in enumerate((faces, f"rec:{tmp_path / 'rec'}")):
        done(
            program(
                "train.py",
                f"--config.data.path={path}",
                f"--config.data.cache={tmp_path / 'cache'}",
                f"--workdir={tmp_path / str(number)}",
                "--config.data.image_size=32",
                "--config.data.minimum_images=4",
                "--config.data.maximum_images=4",
                "--config.model.name=iresnet10",
                "--config.model.width=0.125",
                "--config.model.embedding_size=16",
                "--config.batch_size=8",
                "--config.steps=4",
                "--config.augment.crop=0.5",
                cwd=tmp_path,
            )
        )
        ends.append(parameters(tmp_path / str(number)))
    assert len(ends[0]) == len(ends[1]) > 20
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)
