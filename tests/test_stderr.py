"""What libraries print is heard by whoever made them print it, and by nobody else."""

import concurrent.futures
import os
import threading

import pytest

from facejax.data import decode
from facejax.data.images import damage
from facejax.data.stderr import heard
from tests.pictures import JPEGS

LINE = "Corrupt JPEG data: so"


def say(text):
    os.write(2, text.encode() + b"\n")


def test_what_others_write_still_comes_out(capfd):
    result, lines = heard(lambda: say(f"{LINE}\nsomebody else") or 3, "Corrupt JPEG")
    assert (result, lines) == (3, [LINE])
    assert capfd.readouterr().err == "somebody else\n" * 2, "the work was done again, alone"
    with pytest.raises(ZeroDivisionError):
        heard(lambda: 1 / 0, "x")
    say("x is heard no more")
    assert capfd.readouterr().err == "x is heard no more\n"


def test_others_work_meanwhile_and_only_the_one_that_made_it_hears_a_line(capfd):
    """The three are inside together, by a barrier, and all of them hear of the one's damage."""
    together, calls = threading.Barrier(3, timeout=20), [0, 0, 0]

    def work(number):
        calls[number] += 1
        if calls[number] == 1:
            together.wait()
        if number == 1:
            say(LINE)
        if calls[number] == 1:
            together.wait()
        return number

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda number: heard(lambda: work(number), "Corrupt"), range(3)))
    assert results == [(0, []), (1, [LINE]), (2, [])]
    assert calls == [2, 2, 2]
    assert capfd.readouterr().err == ""


def test_images_decoded_side_by_side_are_judged_as_alone(capfd):
    images = [image[: len(image) * cut // 6] for image in JPEGS.values() for cut in (3, 5, 6)] * 20
    alone = [damage(image) for image in images]
    assert 0 < alone.count("") < len(images)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(damage, images)) == alone
    assert capfd.readouterr().err == ""


def test_where_there_is_no_such_stream_nothing_is_heard():
    saved = os.dup(2)
    os.close(2)
    try:
        assert heard(lambda: 1, "x") == (1, [])
        assert decode(next(iter(JPEGS.values())), None).ndim == 3
    finally:
        os.dup2(saved, 2)
        os.close(saved)
