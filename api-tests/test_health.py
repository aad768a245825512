"""The process says that it lives, that it is ready, and what it is."""

import json
import signal
import time
import urllib.error

import pytest


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
    server = serve("--drain-delay", "3s")
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.get("/ready")
    assert refused.value.code == 503
    assert int(refused.value.headers["Retry-After"]) >= 1
    error = json.loads(refused.value.read())["error"]
    assert error["code"] == "draining" and set(error) == {"message", "type", "param", "code"}
    assert json.loads(server.get("/health")) == {"status": "ok"}
    assert server.process.wait(20) == 0
