"""A headless Chromium, driven over its DevTools pipe: no driver and no package in between."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Keys that write nothing -> Windows' number of them, by which Chromium knows what to do.
CODES = {
    "Tab": 9, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
TEXTS = {"Enter": "\r", "Space": " "}  # keys that write what is not their name


def chromium() -> str | None:
    """The program, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a plain static server of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class Page:
    """One page. Messages are JSON, ended by a zero byte (Chrome DevTools Protocol)."""

    def __init__(self, send: int, receive: int):
        self._send, self._receive = send, receive
        self._buffer, self._count = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, values: dict[str, Any] | None = None, *, of_page: bool = True) -> dict[str, Any]:
        """A command of the protocol to the page or to the browser, and its result; events before it are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": values or {}}
        if self._session and of_page:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._receive, 2**20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def size(self, width: int, height: int, *, dark: bool = False, touch: bool = False) -> None:
        """The window, in CSS pixels; touch: a phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.call("Emulation.setDeviceMetricsOverride", metrics)
        self.call("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, address: str) -> None:
        """Goes to an address, away from the page that is there."""
        self.call("Page.navigate", {"url": "about:blank"})
        self.call("Page.navigate", {"url": address})

    def run(self, code: str) -> Any:
        """The value of an expression; of a promise, what it is kept with."""
        values = {"expression": code, "awaitPromise": True, "returnByValue": True}
        result = self.call("Runtime.evaluate", values)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", result))
        return result["result"].get("value")

    def until(self, code: str, seconds: float = 30) -> Any:
        """The value of an expression once it is true."""
        wait = f"""new Promise((done, failed) => {{
            const end = Date.now() + {seconds * 1000};
            const look = () => {{
                const value = (() => {code})();
                if (value) done(value);
                else if (Date.now() > end) failed(new Error("not within {seconds} s: " + {json.dumps(code)}
                    + "; the page says: " + document.body.innerText.slice(0, 300)));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        return self.run(wait)

    def box(self, element: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, scrolled into the window; element: an expression."""
        left, top, width, height = self.run(f"""(async () => {{
            const element = {element};
            element.scrollIntoView({{ block: "center" }});
            for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame); // shown too, else a tap is lost
            const box = element.getBoundingClientRect();
            return [box.x, box.y, box.width, box.height];
        }})()""")
        return left, top, width, height

    def hit(self, element: str, across: float = 0.5, down: float = 0.5) -> bool:
        """Whether a pointer at that share of an element meets it, or a part of it, in the window as it stands."""
        return self.run(f"""(() => {{
            const element = {element};
            const box = element.getBoundingClientRect();
            const met = document.elementFromPoint(box.x + {across} * box.width, box.y + {down} * box.height);
            return box.width > 0 && element.contains(met);
        }})()""")

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, finger: bool = False) -> None:
        """The mouse or a finger from one place in the window to another, in five steps."""
        kinds = ("touchStart", "touchMove", "touchEnd") if finger else ("mousePressed", "mouseMoved", "mouseReleased")
        act = self.finger if finger else self.pointer
        act(kinds[0], *start)
        for share in (0.2, 0.4, 0.6, 0.8, 1):
            act(kinds[1], *(a + share * (b - a) for a, b in zip(start, end, strict=True)))
        act(kinds[2], *end)
        if finger:
            time.sleep(0.5)  # no person taps sooner; Chromium 156 takes such a tap for the end of a fling, and no click

    def at(self, element: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """The place in the window of a share of an element's width and height."""
        left, top, width, height = self.box(element)
        return left + across * width, top + down * height

    def click(self, element: str, across: float = 0.5, down: float = 0.5) -> None:
        """The mouse, pressed and released on an element."""
        place = self.at(element, across, down)
        self.pointer("mousePressed", *place)
        self.pointer("mouseReleased", *place)

    def tap(self, element: str, across: float = 0.5, down: float = 0.5) -> None:
        """A finger, set on an element and lifted."""
        self.finger("touchStart", *self.at(element, across, down))
        self.finger("touchEnd", 0, 0)

    def pointer(self, kind: str, x: float, y: float) -> None:
        """Left button; kind: mousePressed, mouseMoved or mouseReleased."""
        at = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", at)

    def finger(self, kind: str, x: float, y: float) -> None:
        """Kind: touchStart, touchMove or touchEnd."""
        points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
        self.call("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def key(self, key: str, times: int = 1) -> None:
        """A key, pressed and released: a name in CODES or TEXTS, or a character."""
        values: dict[str, Any] = {"key": TEXTS.get(key, key) if key == "Space" else key, "code": key}
        if key in CODES:
            values["windowsVirtualKeyCode"] = CODES[key]
        else:
            values["text"] = TEXTS.get(key, key)
            values["windowsVirtualKeyCode"] = ord(values["text"].upper())
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", {"type": "rawKeyDown" if key in CODES else "keyDown", **values})
            self.call("Input.dispatchKeyEvent", {"type": "keyUp", **values})

    def downloads(self, folder: Path) -> None:
        """Files that the page offers are saved there, without a question."""
        values = {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True}
        self.call("Browser.setDownloadBehavior", values, of_page=False)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What the window shows, or the whole page, as a PNG."""
        data = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})["data"]
        path.write_bytes(base64.b64decode(data))

    def asked_for(self) -> list[str]:
        """Every address that the page has asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]


def _moved_up(file: int) -> int:
    high = fcntl.fcntl(file, fcntl.F_DUPFD, 10)
    os.close(file)
    return high


@contextmanager
def browser(program: str, profile: Path, flags: Sequence[str] = ()) -> Iterator[Page]:
    """A page of a Chromium of its own, which ends with the block; flags: more of its command line."""
    to_it, from_us = os.pipe()
    to_us, from_it = os.pipe()
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--remote-debugging-pipe", f"--user-data-dir={profile}", *flags,
    ]  # fmt: skip
    # Chromium reads file 3 and writes file 4: the two are kept away from those numbers first.
    to_it, from_it = (_moved_up(f) for f in (to_it, from_it))
    shell = ["bash", "-c", f'exec "$@" 3<&{to_it} 4>&{from_it}', "bash", *command]
    process = subprocess.Popen(
        shell, pass_fds=(to_it, from_it), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_it)
    os.close(from_it)
    try:
        yield Page(from_us, to_us)
    finally:
        process.terminate()
        process.wait(30)
        os.close(from_us)
        os.close(to_us)
