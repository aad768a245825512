"""A headless Chromium, driven through chromedriver by the WebDriver protocol (W3C): JSON over HTTP.

    with Browser() as browser:
        browser.open(url)
        browser.js("return document.title")
"""

import base64
import http.client
import json
import re
import shutil
import subprocess
import time
from waiting import PATIENCE

KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "Shift": "\ue008", "Space": " ", "Up": "\ue013",
        "Left": "\ue012", "Right": "\ue014"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
             "--no-first-run", "--disable-background-networking", "--hide-scrollbars", "--force-color-profile=srgb"]


def missing():
    """Why there is no browser here, or None."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        return "no chromium is installed (Debian: chromium, chromium-driver)"
    return None if shutil.which("chromedriver") else "no chromedriver is installed (Debian: chromium-driver)"


class Browser:
    def __init__(self, width=1100, height=800, arguments=()):
        self.driver = subprocess.Popen([shutil.which("chromedriver"), "--port=0"], stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True)
        try:
            port = None
            while not port:
                line = self.driver.stdout.readline()
                assert line, "chromedriver did not start"
                port = re.search(r"successfully on port (\d+)", line)
            self.http = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=PATIENCE)
            options = {"binary": shutil.which("chromium") or shutil.which("google-chrome"),
                       "args": [*ARGUMENTS, f"--window-size={width},{height}", *arguments]}
            self.session = ""
            self.session = "/session/" + self.post("/session", {"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})["sessionId"]
        except BaseException:
            self.driver.kill()
            self.driver.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.call("DELETE", "")
        except (OSError, http.client.HTTPException, AssertionError):
            pass  # it is gone already
        self.driver.terminate()
        self.driver.wait(PATIENCE)
        self.driver.stdout.close()

    def alive(self):
        try:
            return self.js("return 1") == 1
        except (OSError, http.client.HTTPException, AssertionError):
            return False

    def call(self, method, path, body=None):
        try:
            self.http.request(method, self.session + path, None if body is None else json.dumps(body),
                              {"Content-Type": "application/json"})
            value = json.load(self.http.getresponse())["value"]
        except (OSError, http.client.HTTPException):
            self.http.close()  # the next call begins anew
            raise
        if isinstance(value, dict) and value.get("error"):
            raise AssertionError(f"{path}: {value['error']}: {value['message']}")
        return value

    def post(self, path, body):
        return self.call("POST", path, body)

    def open(self, url):
        self.post("/url", {"url": url})

    def js(self, script, *arguments):
        return self.post("/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css):
        return self.post("/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.post(f"/element/{self.find(css)}/click", {})

    def clear(self, css):
        self.post(f"/element/{self.find(css)}/clear", {})

    def type(self, text, css=None):
        """Types into an element, or into what has the focus; {Name} is a key, {Shift+Name} two."""
        if css:
            self.js("document.querySelector(arguments[0]).focus()", css)
        actions = []
        for piece in re.findall(r"\{(?:Shift\+)?\w+\}|.", text, re.S):
            name = piece.strip("{}") if len(piece) > 1 else None
            keys = [KEYS[key] for key in name.split("+")] if name else [piece]
            actions += [{"type": "keyDown", "value": key} for key in keys]
            actions += [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.post("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, css):
        """What is to be read of all elements that match, each on a line."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText).join('\\n')", css)

    def count(self, css):
        return self.js("return document.querySelectorAll(arguments[0]).length", css)

    def wait(self, script, *arguments, seconds=PATIENCE):
        """Until the script's value is true; returns it."""
        until = time.monotonic() + seconds
        while not (value := self.js(script, *arguments)):
            if time.monotonic() > until:
                raise AssertionError(f"never came true: {script} {arguments}\n{self.js('return document.body.innerText')}")
            time.sleep(0.02)
        return value

    def wait_text(self, css, wanted, seconds=PATIENCE):
        self.wait("return [...document.querySelectorAll(arguments[0])].some((e) => e.innerText.includes(arguments[1]))",
                  css, wanted, seconds=seconds)

    def devtools(self, command, **parameters):
        return self.post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width, height):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def log(self):
        """Lines of the console since the last call: (level, text)."""
        return [(line["level"], line["message"]) for line in self.post("/se/log", {"type": "browser"})]

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))
