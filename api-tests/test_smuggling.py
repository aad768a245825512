"""Messages that two readers could cut at different places, and all else that is no HTTP: what is answered
to each, request by request, and whether its connection lives on.

The fates: "keep" - the connection serves the next request; "close" - it is closed; "wait" - the daemon
waits for the rest of what was announced, until its time is up. What the daemon decides itself holds with every
version of libmicrohttpd. LIBRARY marks what 0.9.75 lets through (bare line feeds, folded lines and NULs that
frame nothing) and later ones refuse: there a 400 and a closed connection are right.
"""

import json
import subprocess

import pytest

from conftest import FATHOMD
from raw import Raw

OLD = b"libmicrohttpd 0.9." in subprocess.run([FATHOMD, "--version"], capture_output=True).stdout
LIBRARY = True
CHAT = "/v1/chat/completions"
BODY = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}'  # 0x3c bytes
HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: hidden\r\nX-Request-Id: hidden\r\n\r\n"


def post(*headers, body=BODY):
    head = [f"POST {CHAT} HTTP/1.1", "Host: a", "Content-Type: application/json", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def get(*headers, line="GET /health HTTP/1.1", host="Host: a", end="\r\n"):
    return (end.join([line, *([host] if host else []), *headers]) + 2 * end).encode("latin-1")


L = f"Content-Length: {len(BODY)}"
C = "Transfer-Encoding: chunked"


def chunks(*pieces, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + end


# name: (bytes, the statuses of all answers and the fate of the connection[, LIBRARY])
CASES = {
# two lengths
    "CL.TE": (post(f"Content-Length: {5+len(HIDDEN)}", C, body=b"0\r\n\r\n"+HIDDEN), "400 close"),
    "TE.CL": (post(C, "Content-Length: 4", body=chunks(HIDDEN)), "400 close"),
    "CL.CL": (post("Content-Length: 0", f"Content-Length: {len(HIDDEN)}", body=HIDDEN), "400 close"),
    "CL, same twice": (post(L, L), "400 close"),
    "CL list": (post(f"Content-Length: {len(BODY)}, {len(BODY)}"), "400 close"),
    "CL list in one, shorter": (post("Content-Length: 0, %d" % len(HIDDEN), body=HIDDEN), "400 close"),
    "CL in hex": (post("Content-Length: 0x3c"), "400 close"),
    "CL with plus": (post("Content-Length: +60"), "400 close"),
    "CL negative": (post("Content-Length: -1", body=HIDDEN), "400 close"),
    "CL octal look": (post("Content-Length: 00%d" % len(BODY)), "200 keep"),
    "CL with a space inside": (post("Content-Length: 6 0"), "400 close"),
    "CL with a dot": (post("Content-Length: 60.0"), "400 close"),
    "CL exponent": (post("Content-Length: 6e1"), "400 close"),
    "CL empty": (post("Content-Length:", body=HIDDEN), "400 close"),
    "CL of blanks": (post("Content-Length:   ", body=HIDDEN), "400 close"),
    "CL 2^64": (post("Content-Length: 18446744073709551616", body=HIDDEN), "413 close"),
    "CL 2^64 + 60": (post("Content-Length: 18446744073709551676"), "413 close"),
    "CL other digits": (post("Content-Length: \xb6\xb0"), "400 close"),
    "CL after a tab": (post(f"Content-Length:\t{len(BODY)}"), "200 keep"),
    "CL before blanks": (post(f"Content-Length: {len(BODY)}  "), "400 close"),
    "CL, space before colon": (post(f"Content-Length : {len(BODY)}"), "400 close"),
    "CL, tab before colon": (post(f"Content-Length\t: {len(BODY)}"), "400 close"),
    "CL with underscore": (post(f"Content_Length: {len(HIDDEN)}", body=b"") + HIDDEN, "400 200 keep"),
    "CL in a GET, hidden behind": (get("Content-Length: %d" % len(HIDDEN)) + HIDDEN + get(), "200 200 keep"),
    "CL shorter than the body": (post(f"Content-Length: {len(BODY)}", body=BODY + HIDDEN), "200 200 keep"),
    "CL shorter, rest no HTTP": (post(f"Content-Length: {len(BODY)}", body=BODY + b"xx\r\n\r\n"), "200 close"),
    # codings
    "TE.TE": (post(C, "Transfer-Encoding: identity", body=chunks(BODY)), "400 close"),
    "TE chunked twice": (post(C, C, body=chunks(BODY)), "400 close"),
    "TE chunked, identity": (post("Transfer-Encoding: chunked, identity", body=chunks(BODY)), "400 close"),
    "TE identity, chunked": (post("Transfer-Encoding: identity, chunked", body=chunks(BODY)), "400 close"),
    "TE gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body=chunks(BODY)), "400 close"),
    "TE xchunked": (post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    "TE chunkedx": (post("Transfer-Encoding: chunkedx", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    "TE in quotes": (post('Transfer-Encoding: "chunked"', body=chunks(BODY)), "400 close"),
    "TE with a parameter": (post("Transfer-Encoding: chunked;q=1", body=chunks(BODY)), "400 close"),
    "TE comma chunked": (post("Transfer-Encoding: ,chunked", body=chunks(BODY)), "400 close"),
    "TE upper case": (post("Transfer-Encoding: CHUNKED", body=chunks(BODY)), "200 keep"),
    "TE after a tab": (post("Transfer-Encoding:\tchunked", body=chunks(BODY)), "200 keep"),
    "TE before a blank": (post("Transfer-Encoding: chunked ", body=chunks(BODY)), "400 close"),
    "TE vertical tab": (post("Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    "TE form feed": (post("Transfer-Encoding: \x0cchunked", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    "TE no-break space": (post("Transfer-Encoding: chunked\xa0", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    "TE null": (post("Transfer-Encoding: chunked\x00", body=b"0\r\n\r\n" + HIDDEN), "400 200 keep", LIBRARY),
    "TE empty": (post("Transfer-Encoding:", L), "400 close"),
    "TE, space before colon": (post("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN), "400 close"),
    "TE, blank before name": (post("X: a", " Transfer-Encoding: chunked", L), "400 close"),
    "TE with underscore": (post("Transfer_Encoding: chunked", L), "200 keep"),
    "TE folded": (post("Transfer-Encoding:\r\n chunked", body=chunks(BODY)), "400 close"),
    "TE half folded": (post("Transfer-Encoding: chun\r\n ked", L), "400 close", LIBRARY),
    "TE in HTTP/1.0": 
        (b"POST /v1/chat/completions HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(BODY), "400 close"),
    "TE in HTTP/1.0 with CL": 
        (b"POST /v1/chat/completions HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN, "400 close"),
    "TE in a GET": (get(C) + b"0\r\n\r\n" + get(), "200 200 keep"),
    # chunks
    "chunk size empty": (post(C, body=b"\r\n" + BODY), "400 close"),
    "chunk size of letters": (post(C, body=b"xyz\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk size negative": (post(C, body=b"-3c\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk size plus": (post(C, body=b"+3c\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk size 0x": (post(C, body=b"0x3c\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk size after a blank": (post(C, body=b" 3c\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk size before a blank": (post(C, body=b"3c \r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk size with zeros": (post(C, body=b"0000003c\r\n" + BODY + b"\r\n0\r\n\r\n"), "200 keep"),
    "chunk size of 17 digits": (post(C, body=b"1000000000000003c\r\n" + BODY + b"\r\n0\r\n\r\n"), "413 close"),
    "chunk size 2^64 - 1": (post(C, body=b"ffffffffffffffff\r\n" + BODY), "wait"),
    "chunk size of 20,000 zeros": (post(C, body=b"0" * 20000 + b"3c\r\n" + BODY + b"\r\n0\r\n\r\n"), "wait"),
    "chunk without its end": (post(C, body=b"3c\r\n" + BODY + b"0\r\n\r\n"), "400 close"),
    "chunk ended by bare LF": (post(C, body=b"3c\r\n" + BODY + b"\n0\r\n\r\n"), "200 keep", LIBRARY),
    "chunk line ended by bare LF": (post(C, body=b"3c\n" + BODY + b"\r\n0\r\n\r\n"), "200 keep", LIBRARY),
    "chunk line ended by bare CR": (post(C, body=b"3c\r" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk shorter than it says": (post(C, body=b"ff\r\n" + BODY + b"\r\n0\r\n\r\n"), "wait"),
    "chunk longer than it says": (post(C, body=b"2\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk extension": (post(C, body=b"3c;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"), "200 keep"),
    "chunk extension with LF": (post(C, body=b"3c;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n"), "400 close"),
    "chunk extension of 20,000 bytes": 
        (post(C, body=b"3c;" + b"a" * 20000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"), "wait"),
    "last chunk of many zeros": (post(C, body=chunks(BODY, end=b"000\r\n\r\n")), "200 keep"),
    "trailer": (post(C, body=chunks(BODY, end=b"0\r\nX: 1\r\n\r\n")), "200 keep"),
    "trailer with a length": 
        (post(C, body=chunks(BODY, end=b"0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN)) + HIDDEN), "200 200 keep"),
    "trailer without a colon": (post(C, body=chunks(BODY, end=b"0\r\nGET /v1/models HTTP/1.1\r\n\r\n")), "400 close"),
    "trailer of 20,000 bytes": (post(C, body=chunks(BODY, end=b"0\r\nX: " + b"a" * 20000 + b"\r\n\r\n")), "431 close"),
    "no chunk at all, then hidden": (post(C, body=b"0\r\n\r\n" + HIDDEN), "400 200 keep"),
    # lines
    "bare LF everywhere": (get(end="\n"), "200 keep", LIBRARY),
    "bare LF after the request line": (b"GET /health HTTP/1.1\nHost: a\r\n\r\n", "200 keep", LIBRARY),
    "bare LF ends the headers": (b"GET /health HTTP/1.1\r\nHost: a\r\n\n", "200 keep", LIBRARY),
    "bare LF hides a header": (get("X: a\nContent-Length: 4"), "wait", LIBRARY),
    "bare CR in a header": (get("X: a\rContent-Length: 4"), "400 close"),
    "bare CR everywhere": (get(end="\r"), "wait"),
    "CR CR LF": (get(end="\r\r\n"), "400 close"),
    "LF CR": (get(end="\n\r"), "400 close"),
    "folded header": (get("X: a\r\n b"), "200 keep", LIBRARY),
    "folded with a tab": (get("X: a\r\n\tb"), "200 keep", LIBRARY),
    "folded first line": (b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n", "400 close"),
    "blank before the first header": (b"GET /health HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n", "400 close"),
    "folded line of blanks": (get("X: a\r\n   "), "200 keep", LIBRARY),
    "empty line before": (b"\r\n" + get(), "200 keep"),
    "1,000 empty lines before": (b"\r\n" * 1000 + get(), "200 keep"),
    "blanks before the method": (b"  " + get(), "close"),
    "NUL in a name": (get("X\x00: 1"), "400 close"),
    "NUL in a value": (get("X: a\x00b"), "200 keep", LIBRARY),
    "NUL hides a coding": (post("X: a\x00\r\nTransfer-Encoding: chunked", L), "400 close"),
    "NUL in the path": (get(line="GET /health\x00/x HTTP/1.1"), "200 keep", LIBRARY),
    "NUL in the method": (get(line="GE\x00T /health HTTP/1.1"), "405 keep", LIBRARY),
    "NUL in the version": (get(line="GET /health HTTP/1.1\x00"), "400 close"),
    "no colon": (get("garbage"), "400 close"),
    "empty name": (get(": 1"), "200 keep"),
    "colon alone": (get(":"), "200 keep"),
    "name of 10,000 bytes": (get("a" * 10000 + ": 1"), "200 keep"),
    "name with a quote": (get('X"Y: 1'), "400 close"),
    "name with brackets": (get("X(Y): 1"), "400 close"),
    "name with a slash": (get("X/Y: 1"), "400 close"),
    "name with a high byte": (get("X\xe9: 1"), "400 close"),
    "value with escape": (get("X: \x1b[2J"), "400 close"),
    "value with delete": (get("X: \x7f"), "400 close"),
    "value with a high byte": (get("X: \xe9"), "200 keep"),
    # request line
    "no version": (b"GET /health\r\n\r\n", "400 close"),
    "no path": (b"GET HTTP/1.1\r\nHost: a\r\n\r\n", "400 close"),
    "only a method": (b"GET\r\nHost: a\r\n\r\n", "close"),
    "two blanks": (get(line="GET  /health HTTP/1.1"), "200 keep"),
    "blank in the path": (get(line="GET /hea lth HTTP/1.1"), "close"),
    "blank after the version": (get(line="GET /health HTTP/1.1 "), "400 close"),
    "tab for a blank": (get(line="GET\t/health\tHTTP/1.1"), "close"),
    "lower-case version": (get(line="GET /health http/1.1"), "400 close"),
    "version 1.2": (get(line="GET /health HTTP/1.2"), "200 keep"),
    "version 1.10": (get(line="GET /health HTTP/1.10"), "400 close"),
    "version 2.0": (get(line="GET /health HTTP/2.0"), "505 close"),
    "version 0.9": (get(line="GET /health HTTP/0.9"), "505 close"),
    "version 1": (get(line="GET /health HTTP/1"), "400 close"),
    "version ICY": (get(line="GET /health ICY/1.1"), "400 close"),
    "method of 10,000 bytes": (get(line="G" * 10000 + " /health HTTP/1.1"), "405 keep"),
    "method with a colon": (get(line="GET: /health HTTP/1.1"), "405 keep"),
    "method empty": (get(line=" /health HTTP/1.1"), "close"),
    "absolute target": (get(line="GET http://b/health HTTP/1.1"), "404 keep"),
    "target of another scheme": (get(line="GET ftp://b/health HTTP/1.1"), "404 keep"),
    "target asterisk": (get(line="OPTIONS * HTTP/1.1"), "404 keep"),
    "connect": (get(line="CONNECT a:1 HTTP/1.1"), "404 keep"),
    "trace": (get(line="TRACE /health HTTP/1.1"), "405 keep"),
    "fragment": (get(line="GET /health#x HTTP/1.1"), "404 keep"),
    "path with a high byte": (get(line="GET /h\xe9alth HTTP/1.1"), "404 keep"),
    "path with dots": (get(line="GET /v1/../health HTTP/1.1"), "404 keep"),
    "path with encoded dots": (get(line="GET /v1/%2e%2e/health HTTP/1.1"), "404 keep"),
    "path with encoded NUL": (get(line="GET /health%00 HTTP/1.1"), "404 keep"),
    "path with a bad escape": (get(line="GET /%zz HTTP/1.1"), "404 keep"),
    # host
    "no host": (get(host=None), "400 close"),
    "two hosts": (get("Host: b"), "400 close"),
    "the same host twice": (get("Host: a"), "400 close"),
    "no host in 1.0": (get(line="GET /health HTTP/1.0", host=None), "200 close"),
    "empty host": (get(host="Host:"), "200 keep"),
    "host with a space": (get(host="Host : a"), "400 close"),
    "host of another": (get(host="Host: evil.example"), "200 keep"),
    "host with a path": (get(host="Host: a/../b"), "200 keep"),
    # others
    "expect of another kind": (post(L, "Expect: 200-maybe"), "200 keep"),
    "upgrade to h2c": 
        (get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), "200 keep"),
    "upgrade to websocket": 
        (get("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"), "200 keep"),
    "method override": 
        (get("X-HTTP-Method-Override: POST", "X-Original-URL: /v1/models", "X-Forwarded-Host: evil.example"), "200 keep"),
    "connection names a header": (get("Connection: close, Host"), "200 close"),
    "range": (get("Range: bytes=0-1"), "200 keep"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 close"),
    "TLS hello": (bytes.fromhex("16030100a5010000a10303") + bytes(100) + b"\r\n\r\n", "close"),
    "proxy protocol": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(), "400 close"),
    "pipelined, the second malformed": (get() + get("Content-Length: 1", "Content-Length: 2") + get(), "200 400 close"),
    "pipelined behind a refusal with a body": (post("Content-Length: 4", body=b"{}{}") + get(), "400 200 keep"),
}
PROBE = get("X-Request-Id: probe")
MAY_BE_SERVED = {"CL with underscore", "CL in a GET, hidden behind", "CL shorter than the body", "TE null",
                 "trailer with a length", "no chunk at all, then hidden"}  # there it is a request of its own


def answers(raw, count):
    """Status and request id of so many answers; fewer when the connection is closed before."""
    found = []
    while len(found) < count and (answer := raw.answer()):
        found.append((answer[0], answer[1].get("x-request-id")))
    return found


@pytest.mark.parametrize("name", CASES)
def test_each_message_is_cut_in_one_way_or_refused(scripted, name):
    data, wanted, *library = CASES[name]
    *statuses, fate = wanted.split()
    with Raw(scripted) as raw:
        try:
            raw.say(data)
            if fate == "keep":
                raw.say(PROBE)
        except ConnectionError:
            pass  # refused before all was said
        if library and not OLD:
            found = answers(raw, len(statuses) + 1)
            assert [str(status) for status, _ in found[:1]] in ([], ["400"], ["405"], statuses[:1])
        else:
            found = answers(raw, len(statuses))
            assert [str(status) for status, _ in found] == statuses
            if fate == "keep":
                assert answers(raw, 1) == [(200, "probe")]
            elif fate == "close":
                assert raw.closes() and raw.answer() is None
            else:
                assert not raw.closes(0.2) and not raw.buffer
        assert name in MAY_BE_SERVED or "hidden" not in [ident for _, ident in found]
    assert json.loads(scripted.get("/health")) == {"status": "ok"}


def test_the_corpus_is_large_enough():
    refused = [name for name, case in CASES.items() if "4" in case[1] or "505" in case[1] or "wait" == case[1]]
    assert len(refused) >= 45
