"""A headless Chromium, driven by its DevTools protocol over pipes: it needs the browser and nothing else."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-dev-shm-usage"),
)
_PATIENCE = 120.0
# The browser reads its commands from file 3, and answers to file 4.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser; `errors` holds what its console complained about."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="edl-jax-browser-")
        to_read, self._in = os.pipe()
        self._out, to_write = os.pipe()
        start = [sys.executable, "-c", _START, str(to_read), str(to_write)]
        command = [*start, CHROMIUM, *_FLAGS, f"--user-data-dir={self.folder}", "about:blank"]
        null = subprocess.DEVNULL
        fds = (to_read, to_write)
        self.process = subprocess.Popen(command, pass_fds=fds, stdin=null, stdout=null, stderr=null)
        os.close(to_read)
        os.close(to_write)
        self._numbers, self._rest, self._events = itertools.count(1), b"", []
        self.errors = []
        self._session = None
        pages = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        found = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.requests = []

    def call(self, method, **params):
        """Return the result of a command of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _PATIENCE
        while True:
            answer = self._next(until)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def open(self, path, *, width, height=900, dark=False):
        """Load a file at a width of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.errors, self.requests, self._events = [], [], []
        self.call("Page.navigate", url=path.absolute().as_uri())
        until = time.monotonic() + _PATIENCE
        while "Page.loadEventFired" not in self._events:
            self._note(self._next(until))

    def run(self, script):
        """Return what an expression says in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def screenshot(self, path, *, whole=True, clip=None):
        """Write a PNG of the page."""
        options = {"captureBeyondViewport": whole}
        if clip:
            options["clip"] = {**clip, "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def print(self, path):
        """Write the page as PDF, on A4."""
        size = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", **size)["data"]))

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self._session = None
            self.call("Browser.close")
        self.process.kill()
        self.process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _next(self, until):
        while b"\0" not in self._rest:
            if not select.select([self._out], [], [], max(until - time.monotonic(), 0.0))[0]:
                raise TimeoutError("the browser does not answer")
            read = os.read(self._out, 2**16)
            if not read:
                raise TimeoutError("the browser has ended")
            self._rest += read
        first, self._rest = self._rest.split(b"\0", 1)
        return json.loads(first)

    def _note(self, event):
        method, params = event.get("method"), event.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
