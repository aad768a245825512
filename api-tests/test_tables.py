"""The tables that clients and operators are promised, row by row: every status with its error object, every
header, every limit with what happens at it and beyond it."""

import json
import re
import socket
import time

import pytest

import keyfile
from conftest import Server
from raw import Raw, chat, post
from waiting import wait_until

CHAT = "/v1/chat/completions"
ENDLESS = {"step_us": 2000, "generate": 1000000}


def key_file(folder, **tenant):
    """A file with one key of one tenant; returns its path and the key."""
    path = folder / "keys.json"
    return str(path), keyfile.make_file(path, {"name": "acme", **tenant})[0]


@pytest.fixture(scope="module")
def small():
    server = Server(["--backend", "scripted", "--context", "512", "--body-limit", "1MiB", "--body-timeout", "300ms"])
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def large():
    server = Server(["--backend", "scripted", "--context", "400000", "--max-n", "2"])
    yield server
    assert server.stop() == 0


class Setting:
    """What a row may use."""

    def __init__(self, serve, folder, small):
        self.serve, self.folder, self.small = serve, folder, small

    def ask(self, data, server=None):
        with Raw(server or self.small) as raw:
            raw.say(data if isinstance(data, bytes) else post(*data))
            return raw.answer()

    def keyed(self, data, **tenant):
        """An answer to the holder of a key."""
        path, key = key_file(self.folder, **tenant)
        return self.ask(post(*data, f"Authorization: Bearer {key}"), self.serve("--keys", path))


@pytest.fixture
def setting(serve, tmp_path, small):
    return Setting(serve, tmp_path, small)


# ---- statuses


def slow_body(setting):
    return setting.ask(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")


def full(setting):
    server = setting.serve("--max-seqs", "1", "--queue-length", "1", script=[ENDLESS])
    with Raw(server) as first, Raw(server) as second:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        second.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        server.wait_metrics(requests_waiting=1)
        return setting.ask((CHAT, chat()), server)


def draining(setting):
    server = setting.serve("--drain-delay", "0s", script=[ENDLESS])
    with Raw(server) as running, Raw(server) as idle:
        for raw, data in ((idle, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"), (running, post(CHAT, chat(max_tokens=100000, stream=True)))):
            raw.say(data)
        assert idle.answer()[0] == 200
        running.until(b"data: ")
        server.process.terminate()
        server.wait_said("draining")
        idle.say(post(CHAT, chat()))
        return idle.answer()


def failed(setting):
    return setting.ask((CHAT, chat()), setting.serve(script=[{"tokens": [70], "finish": "failed"}]))


def late(setting):
    server = setting.serve("--max-seqs", "1", script=[ENDLESS])
    with Raw(server) as first:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        return setting.ask(post(CHAT, chat(), "X-Request-Timeout: 0.2"), server)


def over_the_rate(setting):
    path, key = key_file(setting.folder, limits={"requests_per_minute": 1})
    server = setting.serve("--keys", path)
    for _ in range(3):
        answer = setting.ask(post(CHAT, chat(max_tokens=1), f"Authorization: Bearer {key}"), server)
        if answer[0] != 200:
            break
    return answer


def unkeyed(setting):
    return setting.ask((CHAT, chat()), setting.serve("--keys", key_file(setting.folder)[0]))


BAD = "invalid_request_error"
STATUSES = {  # row: (how it comes about, status, type, code, may a retry help?)
    "bad JSON": (lambda s: s.ask((CHAT, b"{")), 400, BAD, BAD, False),
    "bad field": (lambda s: s.ask((CHAT, chat(top_p=7))), 400, BAD, BAD, False),
    "conflicting fields": (lambda s: s.ask((CHAT, chat(top_logprobs=1))), 400, BAD, BAD, False),
    "unsupported feature": (lambda s: s.ask((CHAT, chat(regex="a"))), 400, BAD, "unsupported_value", False),
    "context": (lambda s: s.ask((CHAT, chat("a " * 5000))), 400, BAD, "context_length_exceeded", False),
    "missing key": (unkeyed, 401, "authentication_error", "invalid_api_key", False),
    "budget used up": (lambda s: s.keyed((CHAT, chat()), limits={"budget_tokens": 1}), 402, "insufficient_quota", None,
                       False),
    "rate": (over_the_rate, 429, "rate_limit_error", "rate_limit_exceeded", True),
    "model of others": (lambda s: s.keyed((CHAT, chat()), models=["deepseek-chat"]), 403, "permission_error", None, False),
    "unknown path": (lambda s: s.ask(("/v1/nothing", {})), 404, "not_found_error", "not_found", False),
    "unknown model": (lambda s: s.ask((CHAT, {**chat(), "model": "x"})), 404, "not_found_error", "model_not_found", False),
    "wrong method": (lambda s: s.ask(b"DELETE " + CHAT.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n"), 405,
                     "not_found_error", "method_not_allowed", False),
    "slow body": (slow_body, 408, "timeout", "request_timeout", True),
    "large body": (lambda s: s.ask((CHAT, b" " * 1100000)), 413, "request_too_large", "request_too_large", False),
    "other media": (lambda s: s.ask(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
                                    b"Content-Length: 2\r\n\r\n{}"), 415, BAD, "unsupported_media_type", False),
    "invalid parameter, DeepSeek's way": (
        lambda s: s.ask((CHAT, chat(top_p=7)), s.serve("--deepseek-status")), 422, BAD, BAD, False),
    "engine failure": (failed, 503, "service_unavailable", "engine_failed", True),
    "queue full": (full, 503, "service_unavailable", "overloaded", True),
    "draining": (draining, 503, "service_unavailable", "draining", True),
    "deadline in the queue": (late, 503, "service_unavailable", "deadline_exceeded", False),
}


@pytest.mark.parametrize("row", STATUSES)
def test_each_status_has_its_error_object_and_its_advice(setting, row):
    come_about, status, kind, code, retry = STATUSES[row]
    found, headers, body = come_about(setting)
    error = json.loads(body)["error"]
    assert (found, error["type"]) == (status, kind), error
    assert error["code"] == code or code is None
    assert set(error) == {"message", "type", "param", "code"} and len(error["message"]) > 10
    assert headers["content-type"] == "application/json" and headers["x-request-id"]
    assert (headers.get("x-should-retry") == "false") == (not retry)
    if status in (429, 503) and retry:
        assert 1 <= int(headers["retry-after"]) <= 60
        assert abs(int(headers["retry-after-ms"]) - 1000 * int(headers["retry-after"])) <= 1000
    if not retry and status != 503:
        assert "retry-after" not in headers
    assert "fathom_" not in body.decode() + str(headers)  # keys are not repeated


# ---- headers


def asked(setting, *headers, body=None, path=CHAT):
    return setting.ask(post(path, body or chat(max_tokens=1), *headers))[1]


HEADERS = {  # row: what is true of it
    "x-request-id is ours": lambda s: re.fullmatch(r"[A-Za-z0-9._-]{8,128}", asked(s)["x-request-id"]),
    "x-request-id is the client's": lambda s: asked(s, "X-Request-Id: me.1-2_3")["x-request-id"] == "me.1-2_3",
    "x-request-id is on refusals": lambda s: asked(s, "X-Request-Id: me", body={})["x-request-id"] == "me",
    "openai-processing-ms": lambda s: 0 <= int(asked(s)["openai-processing-ms"]) < 60000,
    "request-id for Anthropic's clients": lambda s: asked(
        s, body={"max_tokens": 1, "messages": chat()["messages"]}, path="/v1/messages")["request-id"],
    "content-type of an answer": lambda s: asked(s)["content-type"] == "application/json",
    "content-type of a stream": lambda s: asked(s, body=chat(stream=True))["content-type"] == "text/event-stream",
    "cache-control of a stream": lambda s: asked(s, body=chat(stream=True))["cache-control"] in ("no-cache", "no-store"),
    "x-accel-buffering of a stream": lambda s: asked(s, body=chat(stream=True))["x-accel-buffering"] == "no",
    "no gzip": lambda s: "content-encoding" not in asked(s, "Accept-Encoding: gzip, br"),
    "no CORS by default": lambda s: "access-control-allow-origin" not in asked(s, "Origin: http://a"),
    "OpenAI-Organization is ignored": lambda s: asked(s, "OpenAI-Organization: o", "OpenAI-Project: p"),
    "X-Stainless is ignored": lambda s: asked(s, "X-Stainless-Lang: python", "X-Stainless-Retry-Count: 2"),
    "Idempotency-Key is ignored": lambda s: asked(s, "Idempotency-Key: k"),
    "anthropic-version is ignored": lambda s: asked(s, "anthropic-version: 1", "anthropic-beta: b"),
    "keep-alive": lambda s: asked(s).get("connection", "keep-alive").lower() != "close",
}


@pytest.mark.parametrize("row", HEADERS)
def test_each_header_is_as_promised(setting, row):
    assert HEADERS[row](setting)


def test_the_head_of_each_get_route_has_the_headers_of_its_body(small):
    for path in ("/health", "/ready", "/v1/models", "/version", "/metrics"):
        with Raw(small) as raw:
            raw.say(f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\nGET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
            head, get = raw.answer(head_only=True), raw.answer()
            assert head[0] == get[0] == 200 and head[1]["content-type"] == get[1]["content-type"]


# ---- limits of what a body holds


def tools(count):
    return [{"type": "function", "function": {"name": f"f{i}", "parameters": {"type": "object"}}} for i in range(count)]


def nested(depth, inside="1"):
    return ('{"messages":[{"role":"user","content":"hi"}],"max_tokens":1,"x":' + "[" * (depth - 1) +
            inside + "]" * (depth - 1) + "}").encode()


def many(values):
    """A body of so many values in all, the names of fields counted."""
    own = 12
    return ('{"messages":[{"role":"user","content":"hi"}],"max_tokens":1,"x":[' +
            ",".join(["0"] * (values - own)) + "]}").encode()


def number(digits):
    return b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1,"x":0.' + b"1" * (digits - 2) + b"}"


def says(**more):
    return {**chat(max_tokens=1), **more}


def ids(count, output=1):
    return {"prompt": [100] * count, "max_tokens": output}


def schema(node):
    return says(response_format={"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": node}})


def schema_of_properties(count):
    names = [f"p{i}" for i in range(count)]
    return schema({"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names,
                   "additionalProperties": False})


def schema_of_levels(count):
    node = {"type": "string"}
    for _ in range(count - 1):
        node = {"type": "array", "items": node}
    return schema(node)


def schema_of_bytes(count):
    node = {"type": "string", "description": ""}
    own = len(json.dumps(node, separators=(",", ":"))) - 13  # of its quotes and signs the daemon does not count these
    return schema({**node, "description": "x" * (count - own)})


BODIES = {  # row: (what has so many of it, most, the field that is named beyond, or None)
    "JSON depth": (nested, 128, None),
    "JSON values": (many, 100000, None),
    "number length": (number, 64, None),
    "messages": (lambda n: says(messages=[{"role": "user", "content": "a"}] * n), 8192, "messages"),
    "tools": (lambda n: says(tools=tools(n)), 256, "tools"),
    "stop strings": (lambda n: says(stop=["a"] * n), 16, "stop"),
    "bytes of a stop string": (lambda n: says(stop="a" * n), 1024, "stop"),
    "n": (lambda n: says(n=n), 2, "n"),
    "top_logprobs": (lambda n: says(logprobs=True, top_logprobs=n), 20, "top_logprobs"),
    "logit_bias": (lambda n: says(logit_bias={str(i): 1 for i in range(n)}), 1024, "logit_bias"),
    "user_id": (lambda n: says(user_id="u" * n), 512, "user_id"),
    "levels of a schema": (schema_of_levels, 64, "response_format"),
    "bytes of a schema": (schema_of_bytes, 262144, "response_format"),
    "properties of a schema": (schema_of_properties, 1363, "response_format"),  # three values each, of 4,096
    "max_tokens": (lambda n: ids(10, n), 400000 - 10, "max_tokens"),
    "token ids": (lambda n: ids(n), 400000 - 1, "prompt"),
}


@pytest.mark.parametrize("row", BODIES)
def test_each_limit_of_a_body_holds_at_it_and_refuses_beyond_it(large, row):
    make, most, field = BODIES[row]
    for count, wanted in ((most, 200), (most + 1, 400)):
        body = make(count)
        path = "/v1/completions" if isinstance(body, dict) and "prompt" in body else CHAT
        with Raw(large) as raw:
            raw.say(post(path, body))
            status, _, answer = raw.answer()
        assert status == wanted, (row, count, answer[:300])
        if wanted == 400:
            assert field is None or json.loads(answer)["error"]["param"].startswith(field), answer


# ---- limits of connections and time


def closed_beyond(server, most):
    """So many connections are served at once, and the next one is not."""
    raws = [Raw(server) for _ in range(most)]
    for raw in raws:
        raw.say(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.answer()[0] == 200
    with Raw(server, timeout=1) as late_one:
        try:
            late_one.say(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            served = late_one.answer() is not None
        except (TimeoutError, socket.timeout, ConnectionError):
            served = False
    for raw in raws:
        raw.socket.close()
    wait_until(lambda: served_at_last(server))
    return not served


def served_at_last(server):
    """A place is free again once the daemon has seen that somebody left."""
    try:
        return json.loads(server.get("/health")) == {"status": "ok"}
    except OSError:
        return False


def times_out(server, said, seconds, status=None):
    with Raw(server) as raw:
        raw.say(said)
        start = time.monotonic()
        if said.startswith(b"GET /health HTTP/1.1\r\nHost"):
            raw.answer()
        if status:
            assert raw.answer()[0] == status
        return raw.closes() and seconds * 0.8 < time.monotonic() - start + 0.1


def status_of(server, data):
    with Raw(server) as raw:
        try:
            raw.say(data)
        except ConnectionError:
            pass
        return raw.answer()[0]


LENGTH = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: "
TRANSPORT = {  # row: (options, what is true then)
    "connections": (("--connections", "8"), lambda s: closed_beyond(s, 8)),
    "connections of an address": (("--listen", "0.0.0.0:0", "--insecure", "--connections-per-address", "8"),
                                  lambda s: closed_beyond(s, 8)),
    "header block": ((), lambda s: status_of(s, b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40000 + b"\r\n\r\n") == 431),
    "request line": ((), lambda s: status_of(s, b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: a\r\n\r\n") == 414),
    "headers complete within": (("--header-timeout", "400ms"), lambda s: times_out(s, b"GET /hea", 0.4)),
    "body complete within": (("--body-timeout", "400ms"), lambda s: times_out(s, LENGTH + b"9\r\n\r\n{", 0.4, 408)),
    "keep-alive idle": (("--idle-timeout", "400ms"),
                        lambda s: times_out(s, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 0.4)),
    "body": (("--body-limit", "1MiB"), lambda s: status_of(s, LENGTH + b"1048577\r\n\r\n") == 413),
    "body, chunked": (("--body-limit", "1MiB"), lambda s: status_of(
        s, b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n" +
        b" " * 0x100001 + b"\r\n") == 413),
    "bodies in memory": (("--bodies-in-memory", "1MiB"), lambda s: status_of(s, LENGTH + b"1048577\r\n\r\n") == 503),
}


@pytest.mark.parametrize("row", TRANSPORT)
def test_each_limit_of_the_transport_holds(serve, row):
    options, holds = TRANSPORT[row]
    server = serve(*options)
    if "0.0.0.0" in server.url:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    assert holds(server)
    assert json.loads(server.get("/health")) == {"status": "ok"}
