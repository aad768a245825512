"""Every request has one log line, whatever became of it; and a log that nobody reads holds nobody up."""

import json
import os
import signal
import statistics
import subprocess
import time

import pytest

import keyfile
from conftest import FATHOMD, MODEL, ROOT
from raw import Raw, chat, post
from waiting import PATIENCE, wait_until

CHAT = "/v1/chat/completions"
ALWAYS = {"ts", "level", "event", "request_id", "route", "peer", "stream", "status", "outcome",
          "bytes_in", "bytes_out", "t_total"}
WORKED = {"tenant", "model", "prompt_tokens", "cached_tokens", "cache_miss", "cache_miss_at",
          "output_tokens", "t_parse", "t_queue", "t_prefill", "t_first"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def lines_by_id(server):
    lines = server.requests_logged()
    found = {line["request_id"]: line for line in lines}
    assert len(found) == len(lines), "some request has two lines"
    return found


def test_each_request_has_one_line_without_its_words(serve):
    server = serve()
    secret = "the quick brown canary"
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(secret, max_tokens=3, user_id="canary-user"), "X-Request-Id: mine-1",
                     "Authorization: Bearer hush"))
        assert raw.answer()[0] == 200
        raw.say(post(CHAT, b'{"messages": "' + secret.encode() + b'"}', "X-Request-Id: mine-2"))
        assert raw.answer()[0] == 400
        raw.say(b"GET /health HTTP/1.1\r\nHost: a\r\nX-Request-Id: probe\r\n\r\n")
        assert raw.answer()[0] == 200
    server.stop()
    lines = lines_by_id(server)
    assert set(lines) == {"mine-1", "mine-2"}  # a health check is a debug line
    first = lines["mine-1"]
    assert set(first) == ALWAYS | WORKED
    assert (first["status"], first["outcome"], first["output_tokens"]) == (200, "length", 3)
    assert (first["tenant"], first["model"], first["route"]) == ("default", "pilot", "/chat/completions")
    assert first["peer"] == "127.0.0.1" and first["prompt_tokens"] > 0
    assert first["bytes_in"] > len(secret) and first["bytes_out"] > 100
    assert first["t_parse"] + first["t_queue"] + first["t_prefill"] == pytest.approx(first["t_first"], abs=0.01)
    assert 0 < first["t_first"] <= first["t_total"]
    assert lines["mine-2"]["status"] == 400
    assert not any("canary" in line or "hush" in line for line in server.log)


def test_whatever_becomes_of_a_request_it_has_its_line(serve, tmp_path):
    good, record = keyfile.make_key("good", "acme")
    old, expired = keyfile.make_key("old", "acme", expires="2020-01-31")
    file = keyfile.write_file(tmp_path / "keys", [{"name": "acme", "models": ["pilot"]}], [record, expired])
    server = serve("--keys", str(file), "--log-level", "debug", "--body-timeout", "1s",
                   "--body-limit", "100KiB", script=[{"step_us": 1000, "generate": 1000000}])
    bearer = f"Authorization: Bearer {good}"
    whole = [  # id, request, status, outcome
        ("stops", post(CHAT, chat(max_tokens=2), bearer, "X-Request-Id: stops"), 200, "length"),
        ("streams", post(CHAT, chat(max_tokens=2, stream=True), bearer, "X-Request-Id: streams"), 200, "length"),
        ("no-key", post(CHAT, chat(), "X-Request-Id: no-key"), 401, "bad_request"),
        ("expired", post(CHAT, chat(), f"X-Api-Key: {old}", "X-Request-Id: expired"), 401, "bad_request"),
        ("bad-json", post(CHAT, b"{", bearer, "X-Request-Id: bad-json"), 400, "bad_request"),
        ("bad-field", post(CHAT, chat(temperature=9), bearer, "X-Request-Id: bad-field"), 400, "bad_request"),
        ("no-path", post("/nowhere", b"{}", bearer, "X-Request-Id: no-path"), 404, "bad_request"),
        ("no-method", f"GET {CHAT} HTTP/1.1\r\nHost: a\r\n{bearer}\r\nX-Request-Id: no-method\r\n\r\n",
         405, "bad_request"),
        ("too-large", post(CHAT, b"x" * 200000, bearer, "X-Request-Id: too-large"), 413, "bad_request"),
        ("two-hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Request-Id: two-hosts\r\n\r\n",
         400, "bad_request"),
        ("deadline", post(CHAT, chat(max_tokens=100000, stream=True), bearer, "X-Request-Id: deadline",
                          "X-Request-Timeout: 0.1"), 200, "deadline"),
        ("slow-body", post(CHAT, chat(), bearer, "X-Request-Id: slow-body")[:-3], 408, "bad_request"),
        ("tokens", post("/tokenize", {"prompt": "a b"}, bearer, "X-Request-Id: tokens"), 200, "stop"),
        ("probe", "GET /ready HTTP/1.1\r\nHost: a\r\nX-Request-Id: probe\r\n\r\n", 200, "stop"),
        ("list", f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{bearer}\r\nX-Request-Id: list\r\n\r\n", 200, "stop"),
    ]
    for name, request, status, _ in whole:
        with Raw(server) as raw:
            raw.say(request)
            assert raw.answer()[0] == status, name
    for name, stream in (("leaves-stream", True), ("leaves", False), ("half-a-body", False)):
        with Raw(server) as raw:
            request = post(CHAT, chat(max_tokens=100000, stream=stream), bearer, f"X-Request-Id: {name}",
                           "Expect: 100-continue")
            head = request.index(b"\r\n\r\n") + 4
            raw.say(request[:head])
            raw.until(b"100 Continue\r\n\r\n")  # it knows of it
            raw.say(request[head:-3] if name == "half-a-body" else request[head:])
            if stream:
                raw.until(b"data: ")
    wait_until(lambda: len(server.said("request")) == len(whole) + 3)
    assert server.stop() == 0
    lines = lines_by_id(server)
    wanted = {name: (status, outcome) for name, _, status, outcome in whole}
    wanted |= {name: (499, "client_gone") for name in ("leaves-stream", "leaves", "half-a-body")}
    assert {name: (line["status"], line["outcome"]) for name, line in lines.items()} == wanted
    for name, line in lines.items():
        assert ALWAYS <= set(line), name
        let_in = name not in ("no-key", "expired", "no-path", "no-method", "two-hosts", "probe")
        assert (line.get("tenant"), line.get("key_id")) == (("acme", "good") if let_in else (None, None)), name
    assert lines["probe"]["level"] == "debug" and lines["bad-json"]["level"] == "info"
    assert not any(good.split(".")[1] in text for text in server.log)


def test_trace_context_of_a_client_is_in_the_line(serve):
    server = serve()
    cases = {
        "good": [f"traceparent: 00-{TRACE}-{PARENT}-01", "tracestate: rojo=1,congo=2"],
        "case": [f"TraceParent: 00-{TRACE}-{PARENT}-00"],
        "none": [],
        "future": [f"traceparent: 01-{TRACE}-{PARENT}-01"],
        "zero": [f"traceparent: 00-{'0' * 32}-{PARENT}-01"],
        "upper": [f"traceparent: 00-{TRACE.upper()}-{PARENT}-01"],
        "twice": [f"traceparent: 00-{TRACE}-{PARENT}-01"] * 2,
    }
    for name, headers in cases.items():
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(max_tokens=2), f"X-Request-Id: {name}", *headers))
            assert raw.answer()[0] == 200, name
    server.stop()
    lines = lines_by_id(server)
    for name, line in lines.items():
        if name in ("good", "case"):
            assert (line["trace_id"], line["parent_id"]) == (TRACE, PARENT)
            assert len(line["span_id"]) == 16 and line["span_id"] != PARENT
        else:
            assert not {"trace_id", "parent_id", "span_id"} & set(line), name
    assert lines["good"]["span_id"] != lines["case"]["span_id"]


def test_what_clients_send_cannot_forge_a_line(serve):
    server = serve()
    with Raw(server) as raw:
        for wanted in ('"},{"event":"request', "x" * 129, "a\tb", ""):
            raw.say(post(CHAT, chat(max_tokens=1), f"X-Request-Id: {wanted}"))
            status, headers, _ = raw.answer()
            assert status == 200 and headers["x-request-id"].startswith("req-")
        raw.say(post("/v1/\"},\"x\":\"", b"{}"))
        assert raw.answer()[0] == 404
    server.stop()
    lines = server.requests_logged()
    assert len(lines) == 5 and all(set(line) <= ALWAYS | WORKED for line in lines)


def start_unread(*arguments):
    """A daemon whose stderr is a pipe that nobody reads any more once it is ready."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [FATHOMD, "serve", "--model", MODEL, "--backend", "scripted", "--listen", "127.0.0.1:0",
         "--allow-root", *arguments], stderr=write, stdout=subprocess.DEVNULL, cwd=ROOT)
    os.close(write)
    text = b""
    while b'"event":"ready"' not in text or not text.endswith(b"\n"):
        more = os.read(read, 4096)
        assert more, text
        text += more
    url = next(json.loads(line)["url"] for line in text.splitlines() if b'"ready"' in line)

    class Address:
        address = (url.removeprefix("http://").split(":")[0], int(url.rsplit(":", 1)[1]))

    return process, read, Address


def metric(raw, name):
    raw.say(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    text = raw.answer()[2].decode()
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name)))


def test_a_log_that_nobody_reads_delays_no_answer(serve):
    process, read, address = start_unread()
    took = []
    with Raw(address) as raw:
        for _ in range(5000):  # lines of some 250 bytes: the pipe and the queue are full long before
            started = time.monotonic()
            raw.say(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.answer()[0] == 404
            took.append(time.monotonic() - started)
        assert metric(raw, "fathom_log_lines_dropped_total") > 100
        raw.say(post(CHAT, chat(max_tokens=5, stream=True)))
        assert raw.answer()[0] == 200
        # the pipe is full after some hundred lines, the queue after some thousand more
        assert statistics.median(took[-1000:]) < 10 * statistics.median(took[:200])

        text = b""  # somebody reads again: whole lines, and new ones among them
        os.set_blocking(read, False)
        raw.say(post(CHAT, chat(max_tokens=1), "X-Request-Id: after"))
        assert raw.answer()[0] == 200
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and b'"after"' not in text:
            try:
                text += os.read(read, 1 << 16)
            except BlockingIOError:
                raw.say(post(CHAT, chat(max_tokens=1), "X-Request-Id: after"))
                assert raw.answer()[0] == 200
                time.sleep(0.05)
    lines = [json.loads(line) for line in text[: text.rindex(b"\n")].splitlines()]
    assert lines[-1]["request_id"] == "after" or b'"after"' in text
    assert len(lines) > 2000
    os.set_blocking(read, True)
    process.send_signal(signal.SIGINT)
    rest = b""
    while more := os.read(read, 1 << 16):
        rest += more
    assert process.wait(PATIENCE) == 0
    assert b'"event":"stopped"' in rest  # the last word is said
    os.close(read)


def test_a_log_that_nobody_reads_does_not_hold_the_end_up():
    process, read, address = start_unread()
    with Raw(address) as raw:
        for _ in range(1000):
            raw.say(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.answer()[0] == 404
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    os.close(read)


def test_a_log_whose_reader_went_away_does_no_harm():
    process, read, address = start_unread()
    os.close(read)
    with Raw(address) as raw:
        for _ in range(100):
            raw.say(post(CHAT, chat(max_tokens=1)))
            assert raw.answer()[0] == 200
        wait_until(lambda: metric(raw, "fathom_log_lines_dropped_total") >= 100)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
