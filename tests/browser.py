"""A page in a real browser: what it asks for, and whether its pictures can be seen.

Chromium is spoken to by its DevTools protocol, through pipes: JSON texts with a zero byte behind.
"""

import itertools
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time
from typing import Any, NamedTuple

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 60  # seconds for a browser to start and a page to be there, on a machine that is busy
_OPTIONS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-extensions", "--disable-dev-shm-usage"),
    "--no-sandbox",  # which root can't have; it opens our own pages only
)
# The size of each picture once it is decoded; 0 of one that can't be.
_PICTURES = """
Promise.all(Array.from(document.images).map(image => image.decode().then(
    () => [image.naturalWidth, image.naturalHeight], () => [0, 0])))
"""
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Visit(NamedTuple):
    """What a browser made of a page.

    Attributes:
      requests: every address that was asked for, but for the page's own and what is inside it.
      pictures: (width, height) of each, as decoded; (0, 0) of one that is broken or blocked.
      title: of the window.
      text: what can be read.
      overflow: by how many pixels it is wider than its window.
    """

    requests: list[str]
    pictures: list[tuple[int, int]]
    title: str
    text: str
    overflow: int


def visit(path: pathlib.Path, profile: pathlib.Path, *, width: int = 1200) -> Visit:
    """Opens a page, and closes the browser again.

    Args:
      path: of the page.
      profile: a folder for what the browser writes.
      width: of the window.
    """
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(_NAMES)} is installed")
    address = path.resolve().as_uri()
    with _Browser(program, profile, width) as browser:
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        opened = browser.ask("Target.attachToTarget", targetId=target, flatten=True)
        session = opened["sessionId"]
        for domain in ("Network", "Page"):
            browser.ask(f"{domain}.enable", session)
        browser.ask("Page.navigate", session, url=address)
        browser.wait_for("Page.loadEventFired")

        def value(expression: str) -> Any:
            given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
            return browser.ask("Runtime.evaluate", session, **given)["result"]["value"]

        pictures = [(width, height) for width, height in value(_PICTURES)]
        seen = value("[document.title, document.body.innerText]")
        overflow = value(_OVERFLOW)
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert address in asked  # so the events do come
    left = [url for url in asked if url != address and not url.startswith("data:")]
    return Visit(left, pictures, *seen, overflow)


class _Browser:
    def __init__(self, program: str, profile: pathlib.Path, width: int):
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._read = b""
        self._deadline = time.monotonic() + _PATIENCE
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # It reads from 3 and writes to 4, wherever the pipes are here.
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        options = (*_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},900")
        self._process = subprocess.Popen(
            ["bash", "-c", command, "browser", program, *options],
            pass_fds=(theirs_in, theirs_out),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> "_Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # and all that it started
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command's result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def wait_for(self, method: str) -> None:
        """Until an event of that name has come."""
        while not any(event["method"] == method for event in self.events):
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            left = max(self._deadline - time.monotonic(), 0)
            assert select.select([self._in], [], [], left)[0], "the browser does not answer"
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        found = json.loads(message)
        if "method" in found:
            self.events.append(found)
        return found
