"""Killed at random moments 40 times, a gallery keeps what was said to be enrolled, and no more."""

import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from facejax.recognition import Gallery
from tests.environment import surroundings
from tests.faces import photo

ROOT = pathlib.Path(__file__).parents[1]
KILLS = 40

# Imports once, and forks a worker for each line that it is sent: (number of its first person).
SERVER = """
import os, sys
from facejax.recognition import Gallery
from tests.test_gallery_kill import work
import facejax.recognition.gallery

where, said = sys.argv[1:]
for line in sys.stdin:
    child = os.fork()
    if not child:
        work(where, said, int(line))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def work(where: str, said: str, first: int) -> None:
    """Enrolls for ever, two faces a person, and removes every third; says so after each."""
    log = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Gallery(where) as gallery:
        for number in range(first, first + 10**6):
            rows = [photo(number, 0), photo(number, 1)]
            gallery.enroll(f"person-{number}", rows, duplicates="allow")
            os.write(log, f"enrolled person-{number}\n".encode())
            if number % 3 == 2:
                name = f"person-{number - 1}"
                os.write(log, f"removing {name}\n".encode())
                gallery.remove(name)
                os.write(log, f"removed {name}\n".encode())


def events(path: pathlib.Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def checked(folder: pathlib.Path, said: pathlib.Path) -> int:
    """The next number, after all that was said has been found to be so."""
    state = {name: event for event, name in events(said)}
    with Gallery(folder / "people") as gallery:  # recovers, and erases what is left
        names = set(gallery.names())
        assert all(len(gallery.sources(name)) == 2 for name in names)
    assert {name for name, event in state.items() if event == "enrolled"} <= names
    assert not {name for name, event in state.items() if event == "removed"} & names
    assert len(names - set(state)) <= KILLS  # of each killed worker the last, before it said so
    held = b"".join(path.read_bytes() for path in folder.iterdir())
    for name, event in state.items():
        number = int(name.partition("-")[2])
        if event == "removed" or (event == "removing" and name not in names):
            assert photo(number, 0).tobytes() not in held
            assert photo(number, 1)[8:].tobytes() not in held
    with sqlite3.connect(folder / "people.sqlite") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()
    return 1 + max((int(name.partition("-")[2]) for name in names | set(state)), default=-1)


@pytest.mark.slow
def test_killed_40_times(tmp_path):
    folder, said = tmp_path / "gallery", tmp_path / "said"
    folder.mkdir()
    draw = random.Random(0)
    environment = {**surroundings(devices=1), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SERVER, str(folder / "people"), str(said)]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    first = idle = 0
    try:
        for kill in range(KILLS):
            server.stdin.write(f"{first}\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            before, deadline = len(events(said)), time.monotonic() + 60
            while kill % 4 and len(events(said)) == before:  # every fourth, while it opens
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.08))
            os.kill(child, signal.SIGKILL)
            assert server.stdout.readline() == "dead\n"
            idle += len(events(said)) == before
            first = checked(folder, said) if (folder / "people.sqlite").exists() else 0
    finally:
        server.stdin.close()
        server.kill()
        server.wait()
    state = [event for event, _ in events(said)]
    print(
        f"{KILLS} kills, {idle} before anything was said; {state.count('enrolled')} said to be "
        f"enrolled, {state.count('removed')} removed; {first} people in all"
    )
    assert state.count("enrolled") > KILLS
    assert state.count("removed") > KILLS // 4
