"""Files: whole or not there, whoever dies; locks go with their process."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from facejax import files
from facejax.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    files.write(path, "one")
    files.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["a.json"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    files.write(path, "old")

    def half():
        with files.replacing(path) as partial:
            assert partial.suffix == ".txt"
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_at_once(tmp_path):
    with files.replacing(tmp_path / "d") as partial:
        partial.mkdir()
        (partial / "x").write_text("x")
        assert not (tmp_path / "d").exists()
    assert names(tmp_path) == ["d"]
    assert names(tmp_path / "d") == ["x"]


def child(code, *arguments):
    """A process that has said it is there."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=pathlib.Path(__file__).parents[1]
    )
    assert process.stdout.readline() == b"here\n"
    return process


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write(path, "old")
    code = """
import sys, time
from facejax import files
with files.replacing(sys.argv[1]) as partial:
    partial.write_text("half")
    print("here", flush=True)
    time.sleep(100)
"""
    process = child(code, path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.read_text() == "old"


def test_a_lock_is_waited_for_and_dies_with_its_process(tmp_path):
    code = """
import sys, time
from facejax import files
with files.lock(sys.argv[1]):
    print("here", flush=True)
    time.sleep(100)
"""
    holder = child(code, tmp_path / "lock")
    waiting = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        cwd=pathlib.Path(__file__).parents[1],
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    holder.kill()
    assert waiting.stdout.readline() == b"here\n"
    waiting.kill()
    holder.wait(), waiting.wait()
    with files.lock(tmp_path / "lock"):
        pass


def test_lines_are_added(tmp_path):
    for line in ("a", "é"):
        files.append_line(tmp_path / "x", line)
    assert (tmp_path / "x").read_text("utf-8") == "a\né\n"


def test_home_and_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FACEJAX_HOME", raising=False)
    assert files.home() == tmp_path / ".cache" / "facejax"
    monkeypatch.setenv("FACEJAX_HOME", "~/elsewhere")
    assert files.expand("$FACEJAX_HOME/xla") == tmp_path / "elsewhere" / "xla"
    assert files.expand("~/run") == tmp_path / "run"
    assert files.expand("runs/a") == pathlib.Path("runs/a")
    assert os.fspath(files.expand("")) == "."


def test_a_home_that_is_not_there_is_a_users_mistake(monkeypatch):
    def none(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.pathlib.Path, "expanduser", none)
    monkeypatch.delenv("FACEJAX_HOME", raising=False)
    for path in ("~/run", "$FACEJAX_HOME/xla"):
        with pytest.raises(UserError, match=r"~/.* is in a home folder that is not known: set"):
            files.expand(path)


def test_a_folder_is_tried(tmp_path):
    files.try_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.try_folder(tmp_path / "file")
    message = r"^can't write x \(File exists\): give another$"
    with pytest.raises(UserError, match=message), files.refusing("x", "give another"):
        files.try_folder(tmp_path / "file")
