"""Everything has a limit, and beyond it an answer."""

import json
import statistics
import threading
import time

import openai
import pytest

from keyfile import make_file
from raw import Raw, chat, post

CHAT = "/v1/chat/completions"
ENDLESS = {"step_us": 2000, "generate": 1000000}


def test_the_queue_is_bounded_and_says_when_to_come_again(serve):
    server = serve("--max-seqs", "2", "--queue-length", "3", script=[ENDLESS])
    raws = [Raw(server) for _ in range(5)]
    for raw in raws:
        raw.say(post(CHAT, chat(max_tokens=100000, stream=True)))
    server.wait_metrics(requests_running=2, requests_waiting=3)
    with Raw(server) as late:
        late.say(post(CHAT, chat(max_tokens=1)))
        status, headers, body = late.answer()
        assert status == 503 and json.loads(body)["error"]["code"] == "overloaded"
        assert 1 <= int(headers["retry-after"]) <= 60 and int(headers["retry-after-ms"]) >= 1
    for raw in raws:
        raw.socket.close()
    server.wait_idle()
    assert server.metrics()['requests_total{outcome="refused_503"}'] == 1


def test_bodies_in_memory_are_bounded(serve):
    server = serve("--bodies-in-memory", "1MiB", "--body-limit", "1MiB")
    with Raw(server) as first, Raw(server) as second:
        first.say(post(CHAT, b"x" * 900000)[:-10])
        server.wait_metrics(body_bytes=bool)
        second.say(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
        status, headers, body = second.answer()
        assert status == 503 and "retry-after" in headers, body
    server.wait_metrics(body_bytes=0)


def test_a_stopped_reader_is_let_go_and_others_do_not_notice(serve):
    server = serve("--stall-timeout", "3s", script=[{"step_us": 1000, "generate": 1000000}])
    slow = [Raw(server, receive_buffer=4096) for _ in range(10)]
    for raw in slow:
        raw.say(post(CHAT, chat(max_tokens=100000, stream=True)))
    server.wait_metrics(stream_ring_full_total=bool)
    gaps = []
    with Raw(server) as quick:
        quick.say(post(CHAT, chat(max_tokens=1000, stream=True)))
        quick.until(b"data: ")
        last = time.monotonic()
        while b"[DONE]" not in quick.buffer[-40:]:
            assert quick.more()
            now = time.monotonic()
            gaps.append(now - last)
            last = now
    server.wait_metrics(**{'requests_total{outcome="slow_client"}': 10})
    metrics = server.wait_idle()
    assert metrics['requests_total{outcome="slow_client"}'] == 10
    assert metrics["stream_ring_full_total"] >= 10
    assert max(gaps) < 3, "it was kept for as long as the slow ones are waited for"
    for raw in slow:
        raw.socket.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_deadline_of_the_client_ends_what_runs(serve, stream):
    server = serve(script=[ENDLESS])
    with Raw(server) as raw:
        start = time.monotonic()
        raw.say(post(CHAT, chat(max_tokens=100000, stream=stream), "X-Request-Timeout: 0.5"))
        status, _, body = raw.answer()
        assert status == 200 and time.monotonic() - start > 0.4
        assert b'"finish_reason":"insufficient_system_resource"' in body
        assert b'"finish_reason":"stop"' not in body
    server.wait_idle()
    assert server.metrics()['requests_total{outcome="deadline"}'] == 1


def test_a_deadline_that_passes_in_the_queue_is_a_503(serve):
    server = serve("--max-seqs", "1", script=[ENDLESS])
    with Raw(server) as first, Raw(server) as second:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        second.say(post(CHAT, chat(max_tokens=5, stream=True), "X-Request-Timeout: 0.3"))
        status, headers, body = second.answer()
        assert status == 503 and json.loads(body)["error"]["code"] == "deadline_exceeded"


def test_a_silent_stream_shows_life(serve):
    server = serve("--max-seqs", "1", "--keep-alive", "300ms",
                   script=[{"prompt_has": [], "tokens": [35]}, {"step_us": 1500000}])
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(max_tokens=5, stream=True)))
        head = raw.until(b"[DONE]")
        assert b"200 OK" in head
        assert head.count(b": keep-alive\n\n") >= 1 or b"data: " in head


def test_a_stream_in_the_queue_begins_after_five_seconds_and_is_kept_alive(serve):
    server = serve("--max-seqs", "1", "--keep-alive", "500ms", script=[ENDLESS])
    with Raw(server) as first, Raw(server) as second:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        start = time.monotonic()
        second.say(post(CHAT, chat(max_tokens=5, stream=True)))
        second.until(b"data: ")
        assert time.monotonic() - start > 4.5 and server.metrics()["requests_waiting"] == 1
        second.until(b": keep-alive\n\n")
        second.until(b": keep-alive\n\n")


def test_open_connections_are_bounded(serve):
    server = serve("--connections", "10")
    raws = [Raw(server) for _ in range(10)]
    for raw in raws[:9]:
        raw.say(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.answer()[0] == 200
    for raw in raws:
        raw.socket.close()
    assert json.loads(server.get("/health")) == {"status": "ok"}


def test_keys_are_asked_for_where_they_are_set(serve, tmp_path):
    keys = tmp_path / "keys"
    first, second = make_file(keys, "first", "second")
    digits = first.partition(".")[2]
    server = serve("--keys", str(keys))
    body = chat(max_tokens=1)
    with Raw(server) as raw:
        for headers, status in (((), 401), (("Authorization: Bearer wrong-key-0123456789",), 401),
                                ((f"Authorization: Bearer {first[:-1]}",), 401),
                                ((f"Authorization: Bearer fathom_nobody.{digits}",), 401),
                                ((f"Authorization: Bearer fathom_key-1.{digits}",), 401),
                                ((f"Authorization: Bearer {first}",), 200),
                                ((f"Authorization: bearer {first}",), 200),
                                ((f"X-Api-Key: {second}",), 200)):
            raw.say(post(CHAT, body, *headers))
            found, _, answer = raw.answer()
            assert found == status, (headers, answer)
            if status == 401:
                assert json.loads(answer)["error"]["code"] == "invalid_api_key"
                assert digits[:60].encode() not in answer and b"wrong-key" not in answer
        raw.say(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.answer()[0] == 200
        raw.say(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.answer()[0] == 401
    assert not any(digits[:60] in line or "wrong-key" in line for line in server.log)
    with pytest.raises(openai.AuthenticationError):
        server.client().models.list()


@pytest.mark.parametrize("stream", [True, False])
def test_nobody_waits_in_the_queue_for_longer_than_the_queue_wait(serve, stream):
    server = serve("--max-seqs", "1", "--queue-wait", "500ms", script=[ENDLESS])
    with Raw(server) as first, Raw(server) as second:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        start = time.monotonic()
        second.say(post(CHAT, chat(max_tokens=5, stream=stream)))
        status, headers, body = second.answer()
        assert status == 503 and json.loads(body)["error"]["code"] == "overloaded"
        assert "retry-after" in headers and time.monotonic() - start > 0.4


def test_a_reader_that_pauses_misses_nothing(serve):
    server = serve("--stall-timeout", "5s", script=[{"step_us": 100, "tokens_per_step": 4, "generate": 40000}])
    with Raw(server, receive_buffer=4096) as raw:
        raw.say(post(CHAT, chat(max_tokens=50000, stream=True, thinking={"type": "disabled"})))
        server.wait_metrics(stream_ring_full_total=bool)  # the engine has gone on without it
        status, _, body = raw.answer()
    assert status == 200 and body.endswith(b"data: [DONE]\n\n")
    lines = body.decode().split("\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
    assert len(text) == 40000
    assert server.metrics()["stream_ring_full_total"] >= 1
    server.wait_idle()


def test_who_is_sent_away_is_told_when_the_queue_will_have_drained(serve):
    # Two at a time, 0.4 s each: five begin in a second where nothing else runs, so 10 that wait take two.
    server = serve("--max-seqs", "2", "--queue-length", "10", script=[{"step_us": 4000, "generate": 100}])
    stop, told = threading.Event(), []

    def ask_again_and_again():
        while not stop.is_set():
            with Raw(server) as raw:
                raw.say(post(CHAT, chat(max_tokens=100)))
                raw.answer()

    threads = [threading.Thread(target=ask_again_and_again) for _ in range(12)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    answered = 'requests_total{outcome="stop"}'
    server.wait_metrics(**{answered: lambda count: count >= 15})
    while len(told) < 12:
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(max_tokens=1)))
            status, headers, body = raw.answer()
            if status == 503:
                told.append(int(headers["retry-after-ms"]))
                assert int(headers["retry-after"]) == (told[-1] + 999) // 1000
    ms = 10000 / (server.metrics()[answered] / (time.monotonic() - begun))  # for the ten of them
    stop.set()
    for thread in threads:
        thread.join()
    assert min(told) >= 1000 and ms / 3 < statistics.median(told) < ms * 3, (ms, told)
    assert len(set(told)) > 6, told  # nobody is told the same


def test_the_tokens_that_wait_are_bounded(serve):
    server = serve("--max-seqs", "1", "--queue-tokens", "200", script=[ENDLESS])
    raws = [Raw(server) for _ in range(2)]
    for raw in raws:  # one runs, one waits
        raw.say(post(CHAT, chat(content="word " * 30, max_tokens=100000, stream=True)))
    assert server.wait_metrics(queued_tokens=bool)["queued_tokens"] < 200
    with Raw(server) as late:
        late.say(post(CHAT, chat(content="word " * 400, max_tokens=1)))
        status, headers, body = late.answer()
    assert status == 503 and "tokens" in json.loads(body)["error"]["message"]
    assert 1 <= int(headers["retry-after"]) <= 60
    for raw in raws:
        raw.socket.close()
    server.wait_idle()
    assert server.metrics()["queued_tokens"] == 0
