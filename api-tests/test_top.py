"""`fathomctl top` in a terminal of its own: what it draws, its keys, and how it leaves the terminal."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from operator_socket import FATHOMCTL, Operator
from raw import Raw, chat, post
from waiting import PATIENCE

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """Runs fathomctl top on a pty; what came so far, and the page that stands there."""

    def __init__(self, path, rows=24, columns=100, **environment):
        try:
            self.main, self.side = pty.openpty()
        except OSError as e:
            pytest.skip(f"no pseudo-terminal can be had: {e}")
        self.resize(rows, columns, quiet=True)
        self.before = termios.tcgetattr(self.side)
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR" and not k.startswith("FATHOM_")}
        env.update(environment)
        self.process = subprocess.Popen([FATHOMCTL, "--socket", str(path), "top"], stdin=self.side,
                                        stdout=self.side, stderr=self.side, env=env,
                                        start_new_session=True)
        self.all = b""

    def resize(self, rows, columns, quiet=False):
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.columns = columns
        if not quiet:
            self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds):
        if not select.select([self.main], [], [], seconds)[0]:
            return False
        self.all += os.read(self.main, 65536)
        return True

    def page(self):
        """The lines of the latest whole page."""
        pages = self.all.split(b"\x1b[H")
        whole = [p for p in pages if p.endswith(b"\x1b[J")] or [b""]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", whole[-1].decode()).split("\r\n")

    def until(self, word):
        end = time.monotonic() + PATIENCE
        while not any(word in line for line in self.page()):
            assert time.monotonic() < end, self.page()
            self.read(0.2)
        return self.page()

    def type(self, text):
        os.write(self.main, text.encode())

    def ended(self, code):
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end
            self.read(0.05)
        while self.read(0):
            pass
        assert self.process.returncode == code
        assert self.all.count(ENTER) == self.all.count(LEAVE) == 1
        assert self.all.rindex(LEAVE) > self.all.rindex(ENTER)
        assert self.all.rstrip().endswith(LEAVE) and b"\x1b[?25h" in self.all[-40:]
        assert termios.tcgetattr(self.side) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.main)
        os.close(self.side)


@pytest.fixture
def room(serve, tmp_path):
    """(server, operator, open a terminal)"""
    path, made = tmp_path / "admin.sock", []
    server = serve("--admin-socket", str(path), script=[{"step_us": 10000, "generate": 100000}])

    def start(**more):
        made.append(Terminal(path, **more))
        return made[-1]

    yield server, Operator(path), start
    for terminal in made:
        terminal.close()


def stream(server, id):
    raw = Raw(server)
    raw.say(post("/v1/chat/completions", chat(max_tokens=50000, stream=True), f"X-Request-Id: {id}"))
    raw.until(b"data: ")
    return raw


def test_it_shows_load_waits_tenants_and_requests_and_moves(room):
    server, operator, start = room
    raw = stream(server, "seen-in-top")
    terminal = start(columns=160)
    page = terminal.until("seen-in-top")
    text = "\n".join(page)
    for word in ("pilot, open", "1 running, 0 waiting", "KV        [", "tokens ", "first token p50",
                 "then each p50", "TENANT", "default", "STAGE", "running", "c cancels, q quits"):
        assert word in text, (word, text)

    def tokens():
        (row,) = [line for line in terminal.page() if "seen-in-top" in line]
        return int(row.split()[8])

    first = tokens()
    end = time.monotonic() + PATIENCE
    while tokens() <= first:
        assert time.monotonic() < end
        terminal.read(0.2)
    terminal.type("q")
    terminal.ended(0)
    raw.socket.close()


def test_c_asks_which_id_and_cancels_that(room):
    server, operator, start = room
    keep, end = stream(server, "to-keep"), stream(server, "to-end")
    ids = {r["request_id"]: r["id"] for r in operator.get("/requests")["requests"]}
    terminal = start(columns=160)
    terminal.until("to-end")
    terminal.type("c")
    terminal.until("cancel which id? _")
    terminal.type("7x77\x7f\x7f\x7f")  # letters are not taken, and digits can be taken back
    terminal.type(str(ids["to-end"]))
    terminal.until(f"cancel which id? {ids['to-end']}_")
    terminal.type("\r")
    terminal.until(f"{ids['to-end']} is cancelled")
    assert b"insufficient_system_resource" in end.until(b"data: [DONE]")
    terminal.type("c9999\r")
    terminal.until("9999: no request of this id is under way")
    terminal.type("c1\x1b")
    terminal.until("c cancels")
    assert [r["request_id"] for r in operator.get("/requests")["requests"]] == ["to-keep"]
    terminal.type("\x03")
    terminal.ended(0)
    keep.socket.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGABRT,
                                    signal.SIGSEGV])
def test_the_terminal_is_given_back_however_it_ends(room, number):
    _, _, start = room
    terminal = start()
    terminal.until("c cancels")
    assert termios.tcgetattr(terminal.side) != terminal.before
    terminal.process.send_signal(number)
    terminal.ended(-number if number in (signal.SIGABRT, signal.SIGSEGV) else 0)


def test_width_height_and_no_color_are_respected(room):
    server, _, start = room
    raws = [stream(server, f"request-{i}") for i in range(30)]
    terminal = start(rows=20, columns=40, NO_COLOR="1")
    page = terminal.until("c cancels")
    assert len(page) == 20 and max(map(len, page)) <= 40
    assert b"\x1b[7m" not in terminal.all and b"\x1b[1m" not in terminal.all
    terminal.resize(30, 60)
    end = time.monotonic() + PATIENCE
    while len(terminal.page()) != 30:
        assert time.monotonic() < end
        terminal.read(0.2)
    assert 40 < max(map(len, terminal.page())) <= 60
    terminal.type("q")
    terminal.ended(0)
    colored = start()
    colored.until("c cancels")
    assert b"\x1b[7m" in colored.all
    colored.type("q")
    colored.ended(0)
    for raw in raws:
        raw.socket.close()


def test_a_daemon_that_goes_and_comes_back_is_waited_for(room, serve):
    server, operator, start = room
    terminal = start(columns=160)
    terminal.until("pilot, open")
    server.stop()
    terminal.until("no daemon listens")
    serve("--admin-socket", str(operator.path))
    terminal.until("pilot, open")
    terminal.type("q")
    terminal.ended(0)


def test_what_it_prints_once_is_what_it_asked(room):
    server, operator, _ = room
    raw = stream(server, "once")
    look = json.loads(operator.ctl("top", "--once", "--json"))
    assert look["requests"][0]["request_id"] == "once" and look["status"]["engine"]["running"] == 1
    raw.socket.close()
