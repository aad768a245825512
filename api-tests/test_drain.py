"""An operator's drain and its end; and a stop under load: what was begun is finished, nothing is lost."""

import json
import signal
import threading

import pytest

from operator_socket import Operator
from raw import Raw, chat, post
from test_shutdown import SLOW, last_words, streams
from waiting import wait_until

CHAT = "/v1/chat/completions"


@pytest.fixture
def run(serve, tmp_path):
    def start(*options, **more):
        path = tmp_path / "admin.sock"
        return serve("--admin-socket", str(path), *options, **more), Operator(path)

    return start


def ask(server, **more):
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(**more)))
        return raw.answer()


def test_a_drained_server_finishes_what_it_has_refuses_more_and_comes_back(run):
    server, operator = run(script=SLOW)
    raws = streams(server, 20)
    assert operator.ctl("drain") == "drained; 20 requests under way\n"
    status, headers, body = ask(server, max_tokens=1)
    assert status == 503 and json.loads(body)["error"]["code"] == "draining"
    assert int(headers["retry-after"]) >= 1
    assert "connection" not in headers  # the process stays, and so may the connection
    with Raw(server) as raw:
        raw.say(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.answer()[0] == 503 and raw.answer()[0] == 200
    assert operator.get("/status")["door"] == "drained"
    for raw in raws:
        assert b'"finish_reason":"' in raw.until(b"data: [DONE]")
    wait_until(lambda: not operator.get("/status")["requests"])
    assert operator.ctl("undrain") == "open; 0 requests under way\n"
    assert ask(server, max_tokens=1)[0] == 200
    assert json.loads(server.get("/ready"))["status"] == "ready"


def test_a_drained_server_stops_without_waiting_for_balancers(run):
    server, operator = run("--drain-delay", "1h")
    operator.post("/drain")
    assert server.stop(signal.SIGTERM) == 0


def test_who_shuts_down_is_not_opened_again(run):
    server, operator = run("--drain-delay", "0s", script=SLOW)
    (raw,) = streams(server, 1)
    server.process.send_signal(signal.SIGTERM)
    server.wait_said("draining")
    assert operator.get("/status")["door"] == "draining"
    for path in ("/undrain", "/drain"):
        status, sentence = operator.refusal(path)
        assert status == 409 and "shutting down" in sentence
    assert last_words(raw)[-1] == "[DONE]"
    assert server.ended() == 0
    assert not operator.path.exists()


def load(server, threads):
    """Asks from so many threads until it cannot any more or .over is set; every outcome, as (status or word, whole)."""
    outcomes, over = [], threading.Event()

    def go(i):
        while not over.is_set():
            try:
                raw = Raw(server)
            except OSError:
                outcomes.append(("refused", True))
                return
            with raw:
                stream = i % 2 == 0
                try:
                    raw.say(post(CHAT, chat(f"{i}", max_tokens=20, stream=stream)))
                    answer = raw.answer()
                except (OSError, AssertionError) as e:
                    outcomes.append((repr(e), False))
                    continue
                if answer is None:  # nothing was said before the connection closed
                    outcomes.append(("closed", True))
                    continue
                status, _, body = answer
                if status != 200:
                    outcomes.append((status, json.loads(body)["error"]["code"] == "draining"))
                elif stream:
                    text = body.decode()
                    outcomes.append((200, text.endswith("data: [DONE]\n\n") and
                                     "insufficient_system_resource" not in text))
                else:
                    finish = json.loads(body)["choices"][0]["finish_reason"]
                    outcomes.append((200, finish in ("stop", "length")))

    runners = [threading.Thread(target=go, args=(i,)) for i in range(threads)]
    for runner in runners:
        runner.start()
    return runners, outcomes, over


def test_a_stop_under_load_loses_nothing(run):
    server, operator = run("--drain-delay", "300ms", script=[{"step_us": 5000, "generate": 20}])
    runners, outcomes, _ = load(server, 24)
    wait_until(lambda: len(outcomes) > 100)
    server.process.send_signal(signal.SIGTERM)
    for runner in runners:
        runner.join()
    assert server.ended() == 0
    assert all(whole for _, whole in outcomes), [o for o in outcomes if not o[1]]
    served = sum(status == 200 for status, _ in outcomes)
    assert served > 90, served
    logged = [e for e in server.requests_logged() if e["route"] == "/chat/completions"]
    assert sum(e["status"] == 200 for e in logged) == served
    assert not [e for e in logged if e["outcome"] not in ("stop", "length", "refused_503")]


def test_drain_and_undrain_under_load_lose_nothing(run):
    server, operator = run(script=[{"step_us": 2000, "generate": 20}])
    runners, outcomes, over = load(server, 16)

    def wait_for_more_of(status):
        before = sum(found == status for found, _ in outcomes)
        wait_until(lambda: sum(found == status for found, _ in outcomes) > before + 10)

    for _ in range(10):
        wait_for_more_of(200)
        operator.post("/drain")
        wait_for_more_of(503)
        operator.post("/undrain")
    over.set()
    for runner in runners:
        runner.join()
    assert all(whole for _, whole in outcomes), [o for o in outcomes if not o[1]]
    statuses = {status for status, _ in outcomes}
    assert statuses == {200, 503}, statuses
