"""HTTP as it should not be sent: each case has its exact status and the fate of its connection, and
the daemon serves on."""

import json
import socket
import struct
import time

import pytest

from raw import Raw, chat, post

KEEP, CLOSE = "keep", "close"
CHAT = "/v1/chat/completions"
BODY = json.dumps(chat(max_tokens=2)).encode()


def head(*lines):
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def get(path, *headers, version="HTTP/1.1"):
    return head(f"GET {path} {version}", "Host: a", *headers)


def sized(*headers, body=BODY):
    return head(f"POST {CHAT} HTTP/1.1", "Host: a", "Content-Type: application/json", *headers) + body


def chunked(*chunks, end=b"0\r\n\r\n", headers=("Transfer-Encoding: chunked",)):
    body = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks)
    return sized(*headers, body=body + end)


LENGTH = f"Content-Length: {len(BODY)}"

# name: (bytes, status or None = no answer at all, fate of the connection)
CASES = {
    # what is well-formed and unusual
    "plain get": (get("/health"), 200, KEEP),
    "query": (get("/health?x=1&y"), 200, KEEP),
    "trailing slash": (get("/health/"), 200, KEEP),
    "head": (head("HEAD /health HTTP/1.1", "Host: a"), 200, KEEP),
    "empty lines first": (b"\r\n\r\n" + get("/health"), 200, KEEP),
    "connection close": (get("/health", "Connection: close"), 200, CLOSE),
    "http 1.0": (head("GET /health HTTP/1.0"), 200, CLOSE),
    "http 1.0 with host": (get("/health", version="HTTP/1.0"), 200, CLOSE),
    "expect": (sized(LENGTH, "Expect: 100-continue"), 200, KEEP),
    "chunked": (chunked(BODY), 200, KEEP),
    "chunked in bytes": (chunked(*[BODY[i : i + 1] for i in range(len(BODY))]), 200, KEEP),
    "chunk extension": (
        sized("Transfer-Encoding: chunked", body=b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        200, KEEP),
    "trailer": (chunked(BODY, end=b"0\r\nX-Trailer: 1\r\n\r\n"), 200, KEEP),
    "charset": (
        head(f"POST {CHAT} HTTP/1.1", "Host: a", "Content-Type: application/json; charset=utf-8", LENGTH)
        + BODY, 200, KEEP),
    "no content type": (head(f"POST {CHAT} HTTP/1.1", "Host: a", LENGTH) + BODY, 200, KEEP),
    "get with a body": (
        head("GET /health HTTP/1.1", "Host: a", "Content-Length: 3") + b"abc", 200, KEEP),
    # routes and methods
    "unknown path": (get("/v1/embeddings"), 404, KEEP),
    "root": (get("/"), 200, KEEP),  # the built-in page
    "encoded path": (get("/%68ealth"), 404, KEEP),
    "dotted path": (get("/v1/../health"), 404, KEEP),
    "double slash": (get("//health"), 404, KEEP),
    "other case": (get("/Health"), 404, KEEP),
    "wrong method": (head("POST /health HTTP/1.1", "Host: a", "Content-Length: 2") + b"{}", 405, KEEP),
    "get of a post": (get(CHAT), 405, KEEP),
    "delete": (head("DELETE /health HTTP/1.1", "Host: a"), 405, KEEP),
    "unknown method": (head("BREW /health HTTP/1.1", "Host: a"), 405, KEEP),
    "lower-case method": (head("get /health HTTP/1.1", "Host: a"), 405, KEEP),
    "options without cors": (head("OPTIONS /health HTTP/1.1", "Host: a", "Origin: http://x"), 405, KEEP),
    "404 with a body": (head("POST /x HTTP/1.1", "Host: a", "Content-Length: 2") + b"{}", 404, KEEP),
    "media type": (
        head(f"POST {CHAT} HTTP/1.1", "Host: a", "Content-Type: text/plain", LENGTH) + BODY, 415, KEEP),
    "media type that only begins so": (
        head(f"POST {CHAT} HTTP/1.1", "Host: a", "Content-Type: application/jsonx", LENGTH) + BODY, 415, KEEP),
    # framing (server.md 6.1)
    "no host": (head("GET /health HTTP/1.1"), 400, CLOSE),
    "two hosts": (get("/health", "Host: b"), 400, CLOSE),
    "two lengths": (sized(LENGTH, LENGTH), 400, CLOSE),
    "two different lengths": (sized(LENGTH, "Content-Length: 1"), 400, CLOSE),
    "length list": (sized("Content-Length: 5, 5"), 400, CLOSE),
    "length and chunked": (sized(LENGTH, "Transfer-Encoding: chunked"), 400, CLOSE),
    "chunked and length": (sized("Transfer-Encoding: chunked", LENGTH), 400, CLOSE),
    "two codings": (chunked(BODY, headers=("Transfer-Encoding: chunked",) * 2), 400, CLOSE),
    "gzip coding": (chunked(BODY, headers=("Transfer-Encoding: gzip",)), 400, CLOSE),
    "gzip, chunked": (chunked(BODY, headers=("Transfer-Encoding: gzip, chunked",)), 400, CLOSE),
    "identity coding": (sized(LENGTH, "Transfer-Encoding: identity"), 400, CLOSE),
    "chunked in 1.0": (
        head(f"POST {CHAT} HTTP/1.0", "Host: a", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, CLOSE),
    "negative length": (sized("Content-Length: -1"), 400, CLOSE),
    "signed length": (sized("Content-Length: +5"), 400, CLOSE),
    "hexadecimal length": (sized("Content-Length: 0x10"), 400, CLOSE),
    "huge length": (sized("Content-Length: 99999999999999999999999"), (400, 413), CLOSE),
    "length of 2^63": (sized("Content-Length: 9223372036854775808"), (400, 413), CLOSE),
    "space in a name": (get("/health", "X Y: 1"), 400, CLOSE),
    "space before the colon": (get("/health", "Content-Length : 1"), 400, CLOSE),
    "no name": (get("/health", ": 1"), (200, 400), None),  # 0.9.75 drops the line, 1.0 refuses it
    "no colon": (get("/health", "garbage"), 400, CLOSE),
    "control byte in a name": (get("/health", "X\x01: 1"), 400, CLOSE),
    "high byte in a name": ("GET /health HTTP/1.1\r\nHost: a\r\nX\xe9: 1\r\n\r\n".encode("latin-1"), 400, CLOSE),
    "control byte in a value": (get("/health", "X: a\x02b"), 400, CLOSE),
    "delete byte in a value": (get("/health", "X: a\x7fb"), 400, CLOSE),
    "bad deadline": (get("/health", "X-Request-Timeout: soon"), 400, KEEP),
    # chunks
    "chunk size no number": (
        sized("Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n0\r\n\r\n"), (400, None), CLOSE),
    "chunk size negative": (
        sized("Transfer-Encoding: chunked", body=b"-1\r\nabc\r\n0\r\n\r\n"), (400, None), CLOSE),
    "chunk size overflow": (
        sized("Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\nabc\r\n"), (400, 413, None), CLOSE),
    "chunk longer than it says": (
        sized("Transfer-Encoding: chunked", body=b"2\r\nabcdef\r\n0\r\n\r\n"), (400, None), CLOSE),
    # what is no HTTP, or another one
    "http 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 405, 404, 505), CLOSE),
    "http 3.0": (head("GET /health HTTP/3.0", "Host: a"), (400, 505), CLOSE),
    "tls hello": (bytes.fromhex("16030100a5010000a10303") + bytes(100) + b"\r\n\r\n", (400, None), CLOSE),
    "asterisk": (head("OPTIONS * HTTP/1.1", "Host: a"), 404, KEEP),
    "absolute target": (get("http://a/health"), (200, 404), KEEP),
    "connect": (head("CONNECT a:1 HTTP/1.1", "Host: a"), 404, KEEP),
    # size
    "long header": (get("/health", "X: " + "a" * 40000), 431, CLOSE),
    "many headers": (get("/health", *[f"X-{i}: b" for i in range(5000)]), 431, CLOSE),
    "long path": (get("/" + "a" * 40000), 414, CLOSE),
    "declared too large": (sized("Content-Length: 99999999"), 413, CLOSE),
}


@pytest.fixture(scope="module")
def server(scripted):
    return scripted


@pytest.mark.parametrize("name", CASES)
def test_each_case_has_its_status_and_its_connection_its_fate(server, name):
    data, status, fate = CASES[name]
    wanted = status if isinstance(status, tuple) else (status,)
    with Raw(server) as raw:
        try:
            raw.say(data)
        except ConnectionError:
            pass  # refused before all was said; the answer is there all the same
        answer = raw.answer(head_only=data.startswith(b"HEAD "))
        found = answer[0] if answer else None
        assert found in wanted, answer
        if answer:
            assert found < 400 or found in (414, 431, 505) or "content-length" in answer[1]
        if answer and found >= 400 and answer[2].startswith(b"{"):
            error = json.loads(answer[2])["error"]
            assert set(error) == {"message", "type", "param", "code"} and error["message"]
            assert answer[1]["x-request-id"]
        if fate is None:
            return
        if fate == KEEP:
            raw.say(get("/health"))
            assert raw.answer()[0] == 200
        else:
            assert raw.closes()
    assert json.loads(server.get("/health")) == {"status": "ok"}


def test_error_bodies_of_our_own_have_the_object(server):
    for data in (get("/nowhere"), get(CHAT), sized(LENGTH, LENGTH)):
        with Raw(server) as raw:
            raw.say(data)
            status, headers, body = raw.answer()
            error = json.loads(body)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert headers["content-type"] == "application/json"
            assert headers["x-should-retry"] == "false"


def test_allow_names_the_methods(server):
    with Raw(server) as raw:
        raw.say(get(CHAT))
        assert raw.answer()[1]["allow"] == "POST"
        raw.say(head("DELETE /health HTTP/1.1", "Host: a"))
        assert raw.answer()[1]["allow"] == "GET, HEAD"


def test_pipelined_requests_are_answered_in_order(server):
    with Raw(server) as raw:
        raw.say(b"".join(get("/health", f"X-Request-Id: n{i}") for i in range(20)) + get("/ready"))
        for i in range(20):
            status, headers, body = raw.answer()
            assert (status, headers["x-request-id"]) == (200, f"n{i}")
        assert json.loads(raw.answer()[2]) == {"status": "ready"}


def test_a_request_in_single_bytes_is_a_request(server):
    with Raw(server) as raw:
        for byte in post(CHAT, chat(max_tokens=1)):
            raw.say(bytes([byte]))
        assert raw.answer()[0] == 200


def test_request_ids_are_taken_if_fit_and_made_if_not(server):
    with Raw(server) as raw:
        for given, kept in (("abc-1.2_X", True), ("a" * 128, True), ("a" * 129, False), ("a b", False),
                            ("a\"b", False), ("", False)):
            raw.say(get("/health", f"X-Request-Id: {given}"))
            found = raw.answer()[1]["x-request-id"]
            assert (found == given) == kept and found


def test_no_answer_is_lost_when_a_large_body_is_refused_while_it_is_sent(serve):
    server = serve("--body-limit", "1MiB")
    for headers in (("Content-Length: 4000000",), ("Transfer-Encoding: chunked",)):
        with Raw(server) as raw:
            raw.say(sized(*headers, body=b""))
            piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" if "Transfer" in headers[0] else b"x" * 0x10000
            try:
                for _ in range(60):
                    raw.say(piece)
            except ConnectionError:
                pass
            status, answer_headers, body = raw.answer()
            assert status == 413
            assert json.loads(body)["error"]["type"] == "request_too_large"
            assert answer_headers["connection"].lower() == "close"
            assert raw.closes()
    server.wait_metrics(body_bytes=0)


def test_expect_is_refused_before_the_body_is_sent(serve):
    server = serve("--body-limit", "1MiB")
    with Raw(server) as raw:
        raw.say(sized("Content-Length: 4000000", "Expect: 100-continue", body=b""))
        assert raw.answer()[0] == 413


def test_slow_headers_bodies_and_idle_connections_meet_absolute_deadlines(serve):
    server = serve("--header-timeout", "1s", "--body-timeout", "1s", "--idle-timeout", "2s")
    with Raw(server) as header, Raw(server) as body, Raw(server) as silent, Raw(server) as idle:
        start = time.monotonic()
        idle.say(get("/health"))
        assert idle.answer()[0] == 200
        body.say(sized("Content-Length: 1000", body=b"{"))
        try:
            while not body.readable(0.1):  # a byte now and then does not help
                header.say(b"G")
                body.say(b" ")
        except ConnectionError:
            pass  # it has closed
        assert silent.closes()
        assert header.closes()
        status, headers, answer = body.answer()
        assert status == 408 and json.loads(answer)["error"]["type"] == "timeout"
        assert time.monotonic() - start > 0.8
        assert body.closes() and idle.closes()
        assert time.monotonic() - start > 1.8
    assert server.metrics()["http_rejects_total{reason=\"timeout\"}"] == 3


@pytest.mark.parametrize("state", ["accepted", "in the headers", "in the body", "waiting", "streaming"])
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_a_client_may_leave_in_any_state_in_any_way(server, state, how):
    stream = post(CHAT, chat(max_tokens=100000, stream=True))
    raw = Raw(server)
    said = {"accepted": b"", "in the headers": stream[:30], "in the body": stream[:-5],
            "waiting": stream, "streaming": stream}[state]
    raw.say(said)
    if state == "streaming":
        raw.until(b"data: ")
    if how == "half-close":
        raw.socket.shutdown(socket.SHUT_WR)
        if state not in ("accepted", "in the headers"):
            assert raw.closes()
    if how == "reset":
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()
    server.wait_idle()
    assert json.loads(server.get("/health")) == {"status": "ok"}


def test_cors_answers_exactly_the_listed_origins(serve):
    server = serve("--cors-origin", "http://one.example, http://two.example:3000")
    with Raw(server) as raw:
        for origin, allowed in (("http://one.example", True), ("http://two.example:3000", True),
                                ("http://two.example", False), ("null", False)):
            raw.say(get("/health", f"Origin: {origin}"))
            headers = raw.answer()[1]
            assert headers.get("access-control-allow-origin") == (origin if allowed else None)
            raw.say(head(f"OPTIONS {CHAT} HTTP/1.1", "Host: a", f"Origin: {origin}",
                         "Access-Control-Request-Method: POST"))
            status, headers, _ = raw.answer()
            assert status == (204 if allowed else 405)
            assert ("access-control-allow-methods" in headers) == allowed


def test_pages_of_other_sites_cannot_use_a_daemon_without_keys(serve):
    server = serve("--cors-origin", "https://good.example")
    with Raw(server) as raw:
        for origin, status in (("http://localhost:8000", 200), ("http://127.0.0.1:8000", 200),
                               ("http://127.9.9.9", 200), ("http://[::1]:8000", 200),
                               ("https://good.example", 200), ("http://evil.example:8000", 403),
                               ("http://localhost.evil.example", 403), ("http://127.evil.example", 403),
                               ("http://127.0.0.1.evil.example:8000", 403), ("null", 403)):
            raw.say(post(CHAT, chat(), f"Origin: {origin}"))
            assert raw.answer()[0] == status, origin
            raw.say(get("/health", f"Origin: {origin}"))
            assert raw.answer()[0] == 200
