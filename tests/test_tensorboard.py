"""What TensorBoard reads of a run is what stands in metrics.jsonl."""

import json
import struct
import sys

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.training import log, tensorboard
from tests.test_log import metrics, progress

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def crc32c(data):
    """Masked, as TFRecord has it; bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    data = path.read_bytes()
    while data:
        (length,), head = struct.unpack("<Q", data[:8]), data[:8]
        content, end = data[12 : 12 + length], data[12 + length : 16 + length]
        assert struct.unpack("<I", data[8:12])[0] == crc32c(head)
        assert struct.unpack("<I", end)[0] == crc32c(content)
        yield event_pb2.Event.FromString(content)
        data = data[16 + length :]


def shown(folder):
    """{(step, name): value} as TensorBoard has it: what a start forgets is gone."""
    found = {}
    for path in sorted(folder.iterdir()):
        versions = []
        for event in events(path):
            if event.file_version:
                versions.append(event.file_version)
            elif event.HasField("session_log") and event.session_log.status == 1:
                found = {key: value for key, value in found.items() if key[0] < event.step}
            else:
                found |= {(event.step, one.tag): one.simple_value for one in event.summary.value}
        assert versions == ["brain.Event:2"]
    return found


def test_scalars_are_the_lines_also_after_a_restart(tmp_path, monkeypatch):
    path, folder = tmp_path / "metrics.jsonl", tmp_path / "tensorboard"
    path.touch()
    for clock, (start, last) in enumerate([(0, 4), (2, 3)]):  # killed at 4, going on from 2
        monkeypatch.setattr(tensorboard.time, "time_ns", lambda clock=clock: (100 + clock) * 10**9)
        log.forget_after(path, start)
        scalars = tensorboard.Scalars(folder, start=start)
        bar = progress(path, every=1, scalars=scalars)
        if not start:
            bar.write({"step": 0, "auc": 0.5})
        for step in range(start + 1, last + 1):
            bar.update(step, metrics(2.0 + step + 10 * clock), np.arange(2))
            bar.write({"step": step, "lfw/auc": 0.6, "interval": [0, 1], "note": "few", "x": None})
        assert shown(folder)[last, "lfw/auc"] == pytest.approx(0.6)  # without waiting for the end
        bar.close()
        scalars.close()
    expected = {
        (line["step"], name): value
        for line in map(json.loads, path.read_text().splitlines())
        for name, value in line.items()
        if name != "step" and isinstance(value, float | int)
    }
    found = shown(folder)
    assert found == pytest.approx(expected, rel=1e-6)
    assert {(0, "auc"), (3, "loss"), (1, "lfw/auc")} <= found.keys()
    assert max(step for step, _ in found) == 3


def test_a_run_that_starts_anew_forgets_all(tmp_path):
    for start in (0, 0):
        scalars = tensorboard.Scalars(tmp_path, start=start)
        scalars.close()
    last = list(events(sorted(tmp_path.iterdir())[-1]))[-1]
    assert (last.step, last.session_log.status) == (0, 1)


def test_a_missing_package_is_said(monkeypatch):
    tensorboard.check_installed()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r'pip install "facejax\[tensorboard\]"'):
        tensorboard.check_installed()
