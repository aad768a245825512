"""As systemd runs it: the socket it passes, the datagrams it waits for, and how a stop looks to it."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from conftest import FATHOMD, MODEL, ROOT
from raw import chat, post
from waiting import PATIENCE

# Puts the socket where systemd does, says for whom it is, and becomes the daemon.
BECOME = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """What a service manager does: listens for datagrams, passes a socket, starts the daemon."""

    def __init__(self, folder, abstract=False):
        self.name = f"\0fathom-test-{os.getpid()}" if abstract else str(folder / "notify")
        self.notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notes.bind(self.name)
        self.notes.settimeout(PATIENCE)
        self.passed = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.passed.getsockname()[1]
        self.heard = []
        self.process = None

    def start(self, *options):
        command = [FATHOMD, "serve", "--model", MODEL, "--backend", "scripted", "--listen",
                   "127.0.0.1:1", "--allow-root", *options]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FATHOM_")}
        environment["NOTIFY_SOCKET"] = self.name.replace("\0", "@")
        self.process = subprocess.Popen(
            [sys.executable, "-c", BECOME, str(self.passed.fileno()), *command], cwd=ROOT,
            env=environment, stderr=subprocess.DEVNULL, pass_fds=[self.passed.fileno()])

    def wait_for(self, word):
        while not self.heard or word not in self.heard[-1].split("\n"):
            self.heard.append(self.notes.recv(4096).decode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.notes.close()
        self.passed.close()


@pytest.fixture(params=["path", "abstract name"])
def manager(tmp_path, request):
    made = Manager(tmp_path, abstract=request.param == "abstract name")
    yield made
    made.close()


def test_it_takes_the_socket_and_tells_how_far_it_is(manager):
    manager.start("--drain-delay", "0s")
    manager.wait_for("READY=1")
    with urllib.request.urlopen(manager.url + "/ready", timeout=PATIENCE) as answer:
        assert answer.status == 200
    first = manager.heard[0].split("\n")
    assert "STATUS=loading: starting" in first and first[0].startswith("EXTEND_TIMEOUT_USEC=")
    manager.wait_for("WATCHDOG=1")
    manager.process.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    assert manager.process.wait(PATIENCE) == 0


def test_who_connected_before_the_start_is_served(manager):
    with socket.create_connection(manager.passed.getsockname(), timeout=PATIENCE) as early:
        early.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        manager.start("--drain-delay", "0s")
        assert early.recv(12) == b"HTTP/1.1 200"
    manager.wait_for("READY=1")
    manager.process.send_signal(signal.SIGINT)
    assert manager.process.wait(PATIENCE) == 0


def test_an_engine_that_stands_still_with_work_is_not_reported_well(manager, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"step_us": 60000000}\n')
    manager.start("--script", str(script))
    manager.wait_for("READY=1")
    manager.wait_for("WATCHDOG=1")  # at rest
    with socket.create_connection(manager.passed.getsockname(), timeout=PATIENCE) as client:
        client.sendall(post("/v1/chat/completions", chat(max_tokens=1)))
        manager.notes.settimeout(1.5)  # six looks
        with pytest.raises(TimeoutError):  # once it is seen that it has work and that nothing comes of it
            for _ in range(200):
                manager.notes.recv(4096)
