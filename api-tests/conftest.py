"""Starts the daemon on a free port, waits until it is ready, stops it, and shows its log on failure.

Fixtures:
  pilot           the pilot model on the CPU backend, one daemon for all tests; BASE_URL=http://host:port
                  tests a daemon that runs already instead
  scripted        the scripted engine, one daemon for all tests
  serve           a function: serve("--option", "value", ..., script=[{...}, ...]) starts one more daemon
                  for this test alone
  client, scripted_client    openai clients for the first two

Environment: FATHOMD is the program (build/fathomd), MODEL the checkpoint (models/pilot).
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import urllib.request

import openai
import pytest

import shapes
from waiting import PATIENCE, wait_until

shapes.install()

ROOT = pathlib.Path(__file__).resolve().parent.parent
FATHOMD = os.environ.get("FATHOMD", str(ROOT / "build" / "fathomd"))
MODEL = os.environ.get("MODEL", str(ROOT / "models" / "pilot"))
WRAPPER = os.environ.get("DAEMON_WRAPPER", "").split()  # e.g. valgrind --error-exitcode=9
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
# Threads of two daemons that spin on the same cores would take twice the time; the bits are the same.
SHARE = ["--threads", str(max(1, len(os.sched_getaffinity(0)) // WORKERS))] if WORKERS > 1 else []


class Server:
    """One running daemon, or the address of one that somebody else runs."""

    def __init__(self, arguments=(), script=None, directory=None, url=None):
        self.log = []
        self.events = []
        self.url = url
        self.process = None
        self.arguments = list(arguments)
        if url is None:
            self.start(script, directory)

    def start(self, script, directory):
        if script is not None:
            path = pathlib.Path(directory) / "script.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in script))
            self.arguments += ["--script", str(path)]
        command = WRAPPER + [FATHOMD, "serve", "--model", MODEL, "--listen", "127.0.0.1:0",
                             "--allow-root", *SHARE, *self.arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FATHOM_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        cwd=ROOT, env=environment)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        if not self.ready.wait(2 * PATIENCE) or self.url is None:
            self.process.kill()
            pytest.fail("the daemon did not get ready:\n" + "".join(self.log))

    def read_log(self):
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace")
            self.log.append(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            self.events.append(event)
            if event.get("event") == "ready":
                self.url = event["url"]
                self.ready.set()
        self.ready.set()  # it ended

    @property
    def address(self):
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def get(self, path, timeout=PATIENCE):
        """The body of a GET, as text; raises for a status of 400 and above."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return answer.read().decode()

    def post(self, path, body, timeout=PATIENCE):
        """What a POST of JSON brings, as an object; raises for a status of 400 and above."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)

    def metrics(self):
        """{'name{labels without model}': value} of /metrics, without the prefix fathom_. Sums stand
        there too: over tenants without that label, over everything under the bare name."""
        values = {}
        for line in self.get("/metrics").splitlines():
            match = re.fullmatch(r"fathom_(\w+)(?:\{(.*)\})? (\S+)", line)
            if not match:
                continue
            labels = [x for x in (match[2] or "").split(",") if x and not x.startswith("model=")]
            shared = [x for x in labels if not x.startswith("tenant=")]
            for some in {tuple(labels), tuple(shared), ()}:
                name = match[1] + ("{" + ",".join(some) + "}" if some else "")
                values[name] = values.get(name, 0) + float(match[3])
        return values

    def wait_metrics(self, **wanted):
        """Waits until each of these metrics has its value, or is true of it; returns all of that moment."""
        now = {}

        def there():
            now.update(self.metrics())
            return all(value(now[name]) if callable(value) else now[name] == value for name, value in wanted.items())

        wait_until(there, lambda: {name: now[name] for name in wanted})
        return now

    def wait_idle(self):
        """Waits until nothing runs, waits or holds a block; returns the metrics of that moment."""
        return self.wait_metrics(requests_running=0, requests_waiting=0, kv_blocks_used=0)

    def said(self, event):
        return [each for each in self.events if each.get("event") == event]

    def wait_said(self, event, count=1):
        """Waits until this event was logged so often."""
        wait_until(lambda: len(self.said(event)) >= count, lambda: f"{event} is not logged: {self.log[-5:]}")

    def catch_up(self):
        """Waits until everything that was logged up to now was read: a signal's own line is the mark."""
        if self.process is None or self.process.poll() is not None:
            return
        before = len(self.said("signal"))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(self.said("signal")) > before or self.process.poll() is not None,
                   lambda: "the log stands still")

    def requests_logged(self):
        self.catch_up()
        return self.said("request")

    def client(self, **more):
        more.setdefault("max_retries", 0)
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", **more)

    def ended(self):
        """Waits until it has ended by itself; returns the exit code."""
        return self.process.wait(PATIENCE)

    def stop(self, with_signal=signal.SIGINT):
        """Ends it; returns the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            code = self.ended()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join(5)
        return code


def shown(server, request):
    """After a failed test: the end of the daemon's log."""
    report = getattr(request.node, "report", None)
    if server.log and report is not None and report.failed:
        print("".join(server.log[-40:]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.report = report
        if report.failed:
            for name in ("pilot", "scripted"):
                server = item.funcargs.get(name)
                if server is not None and server.log:
                    report.sections.append((f"log of {name}", "".join(server.log[-40:])))


@pytest.fixture(autouse=True)
def every_answer_has_its_shape():
    shapes.faults.clear()
    yield
    assert not shapes.faults, shapes.faults[0]


@pytest.fixture(scope="session")
def pilot():
    server = Server(url=os.environ["BASE_URL"].rstrip("/")) if "BASE_URL" in os.environ else Server()
    yield server
    assert server.stop() == 0, "".join(server.log[-40:])


@pytest.fixture(scope="session")
def scripted():
    server = Server(["--backend", "scripted"])
    yield server
    assert server.stop() == 0, "".join(server.log[-40:])


@pytest.fixture
def serve(tmp_path, request):
    servers = []

    def start(*arguments, script=None):
        if "--backend" not in arguments:
            arguments = ("--backend", "scripted", *arguments)
        servers.append(Server(arguments, script=script, directory=tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        shown(server, request)
        running = server.process.poll() is None
        code = server.stop()
        assert code == 0 or not running, "".join(server.log[-40:])


@pytest.fixture
def client(pilot):
    return pilot.client()


@pytest.fixture
def scripted_client(scripted):
    return scripted.client()
