"""A page in headless Chromium, spoken to through a pipe: what overflows, is missing, or cannot be read.

Nothing but the browser of the distribution is needed. ``python -m tests.browser PLACE …`` checks built
pages, or all pages of a folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (1280, 390)


def find_browser() -> str | None:
    """Chromium or Chrome, where there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


CHECKS = (Path(__file__).parent / "page_checks.js").read_text(encoding="utf-8")
LINKS = "[...document.querySelectorAll('a[href]')].map(a => [a.getAttribute('href'), a.href])"


class Browser:
    """One headless browser with one page."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        to_browser, self._send = os.pipe()
        self._receive, from_browser = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        flags += ["--hide-scrollbars", f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe"]

        def hand_over() -> None:
            # the protocol is spoken on descriptors 3 and 4; copied first, for they may be each other's
            first, second = os.dup(to_browser), os.dup(from_browser)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [program, *flags],
            close_fds=False,
            preexec_fn=hand_over,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest, self._count, self._session = b"", 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._send)
        os.close(self._receive)
        self._profile.cleanup()

    def ask(self, method: str, **parameters: Any) -> Any:
        """The answer to one request of the DevTools protocol."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                piece = os.read(self._receive, 1 << 20)
                if not piece:
                    raise RuntimeError("the browser ended")
                self._rest += piece
            one, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(one)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression on the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def colour(self, scheme: str) -> None:
        """Ask the page for its light or dark colours."""
        media = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.ask("Emulation.setEmulatedMedia", features=media)

    def show(self, page: Path, width: int, scheme: str = "light") -> None:
        """Open a page in a window of this width, and wait until all of it is there."""
        if not page.is_file():
            raise FileNotFoundError(page)
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone
        )
        self.colour(scheme)
        self.ask("Page.navigate", url=page.absolute().as_uri())
        end = time.monotonic() + 120
        wanted = "document.readyState == 'complete' && location.protocol == 'file:'"
        while not self.evaluate(wanted) and time.monotonic() < end:
            time.sleep(0.05)
        self.evaluate("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 1)")

    def picture(self, path: Path) -> None:
        """Write what the whole page looks like as PNG."""
        import base64

        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """A browser, ended afterwards.

    Raises
    ------
    RuntimeError
        There is none.
    """
    program = find_browser()
    if program is None:
        raise RuntimeError("no Chromium; try: apt-get install chromium")
    with Browser(program) as browser:
        yield browser


def faults_of(browser: Browser, page: Path) -> list[str]:
    """Everything that is wrong with a page: at both widths, in both colour schemes, and its links."""
    found = []
    for width in WIDTHS:
        browser.show(page, width)
        found += [f"{width} px: {fault}" for fault in browser.evaluate(f"{CHECKS}; faults()")]
        for scheme in ("light", "dark"):
            browser.colour(scheme)
            found += [f"{width} px, {scheme}: {fault}" for fault in browser.evaluate(f"{CHECKS}; contrast()")]
    return found + [fault for link in browser.evaluate(LINKS) if (fault := _dead(page, *link))]


def _dead(page: Path, written: str, full: str) -> str:
    """What is wrong with a link to a file or a place in one; nothing is fetched from the network."""
    if not full.startswith("file:"):
        return ""
    name, _, place = written.partition("#")
    target = page.parent / unquote(name) if name else page
    if not target.exists():
        return f"no such file: {written}"
    if place and target.suffix == ".html" and unquote(place) not in _places(target):
        return f"leads nowhere: {written}"
    return ""


@cache
def _places(page: Path) -> frozenset[str]:
    """What a link can lead to within a page."""
    return frozenset(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))


def main(names: list[str]) -> int:
    """Check pages, or all pages of folders, named on the command line."""
    if find_browser() is None:
        print("not checked: there is no Chromium here (apt-get install chromium)")
        return 0
    places = [Path(name) for name in names]
    pages = [
        page for place in places for page in (sorted(place.rglob("*.html")) if place.is_dir() else [place])
    ]
    wrong = 0
    with opened_browser() as browser:
        for page in pages:
            for fault in faults_of(browser, page):
                print(f"{page}: {fault}", flush=True)
                wrong += 1
    print(f"{len(pages)} pages, {wrong} faults")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
