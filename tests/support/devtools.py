"""A real browser under control: sizes, media, keys and screenshots, over the DevTools protocol.

    with Browser(tmp_path) as browser:
        browser.open(page)
        browser.resize(360, 740)
        browser.evaluate("document.documentElement.scrollWidth")

The protocol is spoken over a pipe, so no port is opened: messages end with a zero byte
(chromium's `--remote-debugging-pipe`). An answer that does not come within a minute is an error.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from tests.support.browser import QUIET
from tests.support.programs import require

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 60
_MOVE_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for pipe, wanted in zip(pipes, (3, 4)):
    os.dup2(pipe, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""chromium reads from descriptor 3 and writes to 4."""


class Browser:
    """One tab of a headless chromium."""

    def __init__(self, profile: Path) -> None:
        command = [
            require("chromium"),
            *QUIET,
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "--proxy-server=http://127.0.0.1:1",
            "about:blank",
        ]
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MOVE_PIPES, str(commands), str(answers), *command],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._number = 0
        self._session: str | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        [target] = [
            target
            for target in self.call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        ]
        answer = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = answer["sessionId"]
        self.call("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS)
        os.close(self._write)

    def open(self, page: Path) -> None:
        """Load a file, and wait until it is complete."""
        self.call("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def emulate(self, *, media: str = "screen", scheme: str = "light") -> None:
        """Show the page for `screen` or `print`, in `light` or `dark` mode."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key: str, code: int) -> None:
        """Press and release a key, given by name and number: `press("Tab", 9)`."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}),
            )

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value of a JavaScript expression; the page itself has no script."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> bytes:
        """Write the whole page as a PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        content = base64.b64decode(answer["data"])
        path.write_bytes(content)
        return content

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the result of a command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        try:
            return self._messages.get(timeout=_SECONDS)
        except Empty:
            raise AssertionError("the browser did not answer within a minute") from None

    def _listen(self) -> None:
        rest = b""
        with os.fdopen(self._read, "rb", buffering=0) as stream:
            while block := stream.read(65536):
                *messages, rest = (rest + block).split(b"\0")
                for message in messages:
                    self._messages.put(json.loads(message))
