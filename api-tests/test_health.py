"""The process says that it lives, that it is ready, and what it is."""

import json
import signal
import socket
import subprocess
import time
import urllib.error

import pytest

from conftest import FATHOMD, MODEL, ROOT
from raw import Raw, chat, post
from waiting import PATIENCE


@pytest.mark.parametrize("path", ["/health", "/live", "/livez", "/v1/health", "/health/"])
def test_a_living_process_answers_200(scripted, path):
    assert json.loads(scripted.get(path)) == {"status": "ok"}


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
def test_a_ready_one_says_so(scripted, path):
    assert json.loads(scripted.get(path)) == {"status": "ready"}


def test_version_names_the_http_library(scripted):
    version = json.loads(scripted.get("/version"))
    assert version["version"] and version["libmicrohttpd"]


def test_leaving_is_told_before_it_is_done(serve):
    server = serve("--drain-delay", "1h")
    server.process.send_signal(signal.SIGTERM)
    server.wait_said("signal")
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.get("/ready")
    assert refused.value.code == 503
    assert int(refused.value.headers["Retry-After"]) >= 1
    error = json.loads(refused.value.read())["error"]
    assert error["code"] == "draining" and set(error) == {"message", "type", "param", "code"}
    assert json.loads(server.get("/health")) == {"status": "ok"}
    assert server.stop() == 0  # it waits no longer


class Starting:
    """A daemon from its first moment on, at an address known beforehand."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = free.getsockname()
        self.process = subprocess.Popen(
            [FATHOMD, "serve", "--model", MODEL, "--listen", "127.0.0.1:%d" % self.address[1],
             "--allow-root", "--drain-delay", "0s"], cwd=ROOT, stderr=subprocess.DEVNULL)

    def ask(self, data):
        while True:
            try:
                with Raw(self) as raw:
                    raw.say(data)
                    return raw.answer()
            except ConnectionRefusedError:
                assert self.process.poll() is None
                time.sleep(0.001)


def test_before_the_model_is_there_it_lives_and_is_not_ready():
    seen = []
    for _ in range(5):  # a fast machine may have loaded it before the first question
        server = Starting()
        until = time.monotonic() + 2 * PATIENCE
        while (answer := server.ask(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"))[0] != 200:
            seen.append(answer)
            chat_answer = server.ask(post("/v1/chat/completions", chat(max_tokens=1)))
            seen += [chat_answer] if chat_answer[0] != 200 else []
            assert server.ask(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200
            assert time.monotonic() < until
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        if seen:
            break
    assert seen
    for status, headers, body in seen:
        error = json.loads(body)["error"]
        assert (status, error["type"], error["code"]) == (503, "service_unavailable", "loading")
        assert int(headers["retry-after"]) >= 1


def health(*arguments):
    return subprocess.run([FATHOMD, "health", *arguments], cwd=ROOT, capture_output=True, text=True,
                          timeout=PATIENCE)


def test_the_program_itself_asks_whether_it_is_ready(scripted):
    done = health("--listen", "%s:%d" % scripted.address)
    assert done.returncode == 0 and json.loads(done.stdout), done.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = "127.0.0.1:%d" % free.getsockname()[1]
    done = health("--listen", nobody)
    assert done.returncode == 1 and nobody in done.stderr
    assert health("--listen", "here").returncode == 2
    assert health("--no-such-option").returncode == 2


def test_a_daemon_that_drains_is_not_ready_for_it(serve):
    server = serve("--drain-delay", "1h")
    server.process.send_signal(signal.SIGTERM)
    server.wait_said("signal")
    done = health("--listen", "%s:%d" % server.address)
    assert done.returncode == 1 and "drain" in done.stdout
    assert server.stop() == 0
