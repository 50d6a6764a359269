"""A gallery on a PostgreSQL server, which is started here where one is installed."""

import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import numpy as np
import pytest

from facejax.errors import UserError
from facejax.recognition import Gallery
from tests.environment import surroundings
from tests.faces import Recognizer, person, photo

psycopg = pytest.importorskip("psycopg", reason="extra postgres")

ROOT = pathlib.Path(__file__).parents[1]
PEOPLE = 15

# Enrolls people while another process does, and looks for its own after each.
WORKER = """
import sys
import numpy as np
from facejax.recognition import Gallery
from tests.faces import photo

where, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Gallery(where) as gallery:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(first, first + count):
        gallery.enroll(f"P{number}", photo(number, 0))
        print(f"P{number}", flush=True)
        (match,) = gallery.identify(photo(number, 1), threshold=0.6)
        assert match.name == f"P{number}", match
    sys.stdin.readline()
    matches = gallery.identify(np.array([photo(n, 1) for n in range(200)]), threshold=0.6)
    print(*[match.name for match in matches if match.name], flush=True)
"""


def programs() -> pathlib.Path | None:
    """The folder of PostgreSQL's server."""
    found = shutil.which("postgres")
    if found is None:
        places = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        found = str(places[-1]) if places else None
    return pathlib.Path(found).resolve().parent if found else None


@pytest.fixture(scope="module")
def server():
    """A server behind a socket in a folder; as root it runs as somebody else, as it insists."""
    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (postgres, initdb)")
    user: dict = {}
    place = pathlib.Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = known.get("postgres") or known.get("nobody")
        if entry is None:
            pytest.skip("PostgreSQL does not run as root, and there is nobody else")
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(place, entry.pw_uid, entry.pw_gid)
    data = place / "data"
    plain = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(place)}
    options = {"cwd": place, "env": plain, **user}
    made = subprocess.run(
        [folder / "initdb", "-D", data, "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8"],
        capture_output=True, text=True, **options,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(place, ignore_errors=True)
        pytest.skip(f"initdb does not work here: {made.stderr.strip().splitlines()[-1:]}")
    running = subprocess.Popen(
        [folder / "postgres", "-D", data, "-F", "-k", place, "-c", "listen_addresses="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(host=str(place), user="tester", dbname="postgres").close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "the server does not answer"
                assert running.poll() is None, "the server has ended"
                time.sleep(0.05)
        yield place
    finally:
        running.terminate()
        running.wait(30)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def where(server) -> str:
    """The URL of an empty database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(
        host=str(server), user="tester", dbname="postgres", autocommit=True
    ) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://tester:secret@/{name}?host={server}"


def start(where: str, first: int, count: int) -> subprocess.Popen:
    environment = {**surroundings(devices=1), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, where, str(first), str(count)],
        cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def names_of(matches) -> list[str | None]:
    return [match.name for match in matches]


def test_everything_but_the_file(where, tmp_path):
    with Gallery(where, recognizer=Recognizer()) as gallery:
        for seed, name in enumerate(["Ann", "Bob / 李", "Cyd"]):
            gallery.enroll(name, np.array([photo(seed, 0), photo(seed, 1)]))
        queries = np.array([photo(seed, 9) for seed in range(4)])
        see = lambda **more: names_of(gallery.identify(queries, threshold=0.6, **more))  # noqa: E731
        assert see() == see(pool="mean") == ["Ann", "Bob / 李", "Cyd", None]
        gallery.rename("Bob / 李", "Eve")
        gallery.remove("Cyd")
        assert see() == see(pool="mean") == ["Ann", "Eve", None, None]
        gallery.merge(["Eve"], "Ann")
        assert see() == see(pool="mean") == ["Ann", "Ann", None, None]
        assert gallery.verify("Ann", photo(1, 9), threshold=0.6)
        gallery.export(tmp_path / "all.npz")
    with Gallery(tmp_path / "people") as file:
        assert file.import_(tmp_path / "all.npz") == 4
        assert names_of(file.identify(queries, threshold=0.6)) == ["Ann", "Ann", None, None]
    with Gallery(where, create=False) as again:
        assert again.import_(tmp_path / "all.npz") == 0
        assert again.card["name"] == "toy"
        again.enroll("Zoe", person(5))
        with pytest.raises(UserError, match="there is a Ann in"):
            again.rename("Zoe", "Ann")


@pytest.mark.slow
def test_two_processes_enroll_and_identify_at_once(where):
    first, second = start(where, 0, PEOPLE), start(where, 100, PEOPLE)
    try:
        for worker in (first, second):  # both may have made the tables
            assert worker.stdout.readline() == "open\n"
        with Gallery(where, create=False) as gallery:
            queries = np.array([photo(number, 1) for number in range(200)])
            before: set[str | None] = set()
            for worker in (first, second):
                worker.stdin.write("go\n")
                worker.stdin.flush()
            for turn in range(PEOPLE):
                said = {worker.stdout.readline().strip() for worker in (first, second)}
                gallery.enroll(f"P{150 + turn}", photo(150 + turn, 0))
                seen = set(names_of(gallery.identify(queries, threshold=0.6)))
                # What was said to be enrolled is found by the next search, and stays.
                assert said | before | {f"P{150 + turn}"} <= seen
                before = seen
            everybody = [f"P{first + n}" for first in (0, 100, 150) for n in range(PEOPLE)]
            assert [n for n in names_of(gallery.identify(queries, threshold=0.6)) if n] == everybody
            for worker in (first, second):
                out, _ = worker.communicate("\n", timeout=60)
                assert worker.returncode == 0
                assert out.split() == everybody
    finally:
        for worker in (first, second):
            worker.kill()
            worker.wait()


def test_threads_with_galleries_of_their_own_lose_nothing(where):
    """Numbers of changes become visible in order, so that no reader passes one over."""
    reader = Gallery(where)
    writers = [Gallery(where) for _ in range(3)]

    def enroll(which: int) -> None:
        for number in range(10):
            writers[which].enroll(f"P{which}-{number}", photo(100 * which + number, 0))

    threads = [threading.Thread(target=enroll, args=(which,)) for which in range(3)]
    queries = np.array([photo(100 * which + n, 1) for which in range(3) for n in range(10)])
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        reader.identify(queries, threshold=0.6)
    for thread in threads:
        thread.join()
    expected = [f"P{which}-{n}" for which in range(3) for n in range(10)]
    assert names_of(reader.identify(queries, threshold=0.6)) == expected
    for gallery in (reader, *writers):
        gallery.close()


def test_a_busy_server_and_one_that_is_not_there(where, server):
    with Gallery(where, timeout=0.2) as gallery:
        gallery.enroll("Ann", photo(0, 0))
        name = where.partition("@/")[2].partition("?")[0]
        with psycopg.connect(host=str(server), user="tester", dbname=name) as other:
            other.execute("UPDATE facejax_gallery SET facts = facts")
            with pytest.raises(UserError, match=r"another process's write for 0\.2 s") as caught:
                gallery.enroll("Bob", photo(1, 0))
            assert "secret" not in str(caught.value)
            assert names_of(gallery.identify(photo(0, 1), threshold=0.6)) == ["Ann"]
        gallery.enroll("Bob", photo(1, 0))
    for url in (where.replace(str(server), "/nowhere"), where.replace(name, "another")):
        with pytest.raises(UserError, match="refuses") as caught:
            Gallery(url)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="there is no gallery in"):
        Gallery(where.replace(name, "postgres"), create=False)


def test_a_missing_driver_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"pip install 'facejax\[postgres\]'"):
        Gallery("postgresql+psycopg://tester:secret@localhost/faces")
