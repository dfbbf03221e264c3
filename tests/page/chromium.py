"""A headless Chromium, spoken to by its DevTools protocol through a pipe.

Nothing but Python's standard library and the program `chromium`. What waits, waits for a thing, with a
limit, and says what it waited for.
"""

import base64
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time

PATIENCE = 30.0

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The name of a site whose owner has it lead to this machine.
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
    "--remote-debugging-pipe",
]


class Chromium:
    """A browser with a profile of its own, which is removed with it."""

    def __init__(self):
        if not shutil.which("chromium"):
            raise SystemExit("tests/page needs chromium: apt-get install chromium")
        self.profile = tempfile.mkdtemp(prefix="hookd-page-")
        read_theirs, self.write = os.pipe()
        self.read, write_theirs = os.pipe()
        words = shlex.join(FLAGS + [f"--user-data-dir={self.profile}", "about:blank"])
        line = f"exec chromium {words} 3<&{read_theirs} 4>&{write_theirs}"
        self.log = open(os.path.join(self.profile, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            ["bash", "-c", line], pass_fds=(read_theirs, write_theirs), stdout=self.log, stderr=self.log
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self.number = 0
        self.answers = {}
        self.events = []
        self.changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        rest = b""
        while chunk := os.read(self.read, 1 << 20):
            *whole, rest = (rest + chunk).split(b"\0")
            with self.changed:
                for message in map(json.loads, whole):
                    if "id" in message:
                        self.answers[message["id"]] = message
                    else:
                        self.events.append(message)
                self.changed.notify_all()

    def call(self, method, session=None, **parameters):
        """Has a method called, and returns its result."""
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write, data) :]
        with self.changed:
            if not self.changed.wait_for(lambda: number in self.answers, PATIENCE):
                raise AssertionError(f"{method} was not answered")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def close(self):
        """Ends the browser."""
        try:
            self.call("Browser.close")
            self.process.wait(PATIENCE)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)


class Tab:
    """A tab, and what a person at it sees and does."""

    def __init__(self, browser, width=1280, height=800, scheme="light"):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.target = target
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.call(f"{domain}.enable")
        self.size(width, height)
        self.media(scheme)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def size(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def media(self, scheme, kind=""):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def open(self, url):
        error = self.call("Page.navigate", url=url).get("errorText")
        assert not error, f"{url}: {error}"
        self.until("document.readyState === 'complete'")

    def run(self, expression):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression, patience=PATIENCE):
        """Waits until an expression is true, and returns what it is."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            # A node of the page is there, and has no value elsewhere.
            if value := self.run(f"(v => v instanceof Node ? true : v)({expression})"):
                return value
            time.sleep(0.02)
        self.picture("/tmp/hookd-page-failed.png")
        shown = self.run("document.body.innerText.slice(0, 400)")
        raise AssertionError(f"this did not come: {expression}\n{shown}")

    def texts(self, selector):
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility()).map(e => e.innerText)"
        )

    def click(self, selector, at=0):
        place = self.until(
            f"(() => {{ const e = document.querySelectorAll({json.dumps(selector)})[{at}]; if (!e) return null;"
            " const r = e.getBoundingClientRect(); return r.width ? [r.left + r.width / 2, r.top + r.height / 2] : null; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def press(self, key, text=None):
        more = {"text": text} if text else {}
        code = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9, "End": 35, "Home": 36}.get(key, 0)
        if key == "Enter":
            more = {"text": "\r"}
        if len(key) == 1:
            more = {"text": key}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def write(self, text):
        self.call("Input.insertText", text=text)

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def print(self, path):
        data = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def complaints(self):
        """What the browser has to say against the page: exceptions, violations of its policy, dialogs."""
        said = []
        for event in list(self.browser.events):
            if event.get("sessionId") != self.session:
                continue
            method, parameters = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                said.append(details.get("exception", {}).get("description", details["text"]))
            elif method == "Page.javascriptDialogOpening":
                said.append(f"dialog: {parameters['message']}")
            elif method == "Log.entryAdded":
                said.append(f"{parameters['entry']['source']}: {parameters['entry']['text']}")
        return said

    def requests(self):
        """The addresses that the page has asked for."""
        mine = [event for event in self.browser.events if event.get("sessionId") == self.session]
        return [e["params"]["request"]["url"] for e in mine if e["method"] == "Network.requestWillBeSent"]

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
