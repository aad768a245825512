"""The operator's socket: who may speak there, what it shows, what it does; and fathomctl on top of it."""

import json
import os
import socket
import stat
import subprocess
import sys
import time

import pytest

from conftest import FATHOMD, MODEL, ROOT
from keyfile import make_file
from operator_socket import Connection, Operator
from raw import Raw, chat, post
from waiting import PATIENCE, wait_until

CHAT = "/v1/chat/completions"
SLOW = [{"step_us": 10000, "generate": 100000}]


@pytest.fixture
def run(serve, tmp_path):
    """run(options..., script=...) -> (server, operator)"""

    def start(*options, **more):
        path = tmp_path / "admin.sock"
        return serve("--admin-socket", str(path), *options, **more), Operator(path)

    return start


def stream(server, *headers, **more):
    """A stream under way."""
    raw = Raw(server)
    raw.say(post(CHAT, chat(max_tokens=50000, stream=True, **more), *headers))
    raw.until(b"data: ")
    return raw


def stages(operator):
    return [request["stage"] for request in operator.get("/requests")["requests"]]


def finishes(raw):
    text = raw.until(b"data: [DONE]").decode()
    events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [c["finish_reason"] for e in events for c in json.loads(e)["choices"]
            if c["finish_reason"]]


# ---- the socket


def test_the_socket_is_its_owners_alone_and_goes_with_the_daemon(run, tmp_path):
    server, operator = run()
    assert stat.S_IMODE(os.stat(operator.path).st_mode) == 0o600
    assert operator.get("/status")["version"]
    server.stop()
    assert not operator.path.exists()


def test_what_a_killed_daemon_left_is_replaced_and_a_live_one_is_not(run, serve, tmp_path):
    server, operator = run()
    second = subprocess.run([FATHOMD, "serve", "--model", MODEL, "--backend", "scripted", "--listen",
                             "127.0.0.1:0", "--allow-root", "--admin-socket", str(operator.path)],
                            capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert second.returncode != 0 and "another process listens" in second.stderr
    assert operator.get("/status")["door"] == "open"
    server.process.kill()
    server.process.wait()
    assert operator.path.exists()
    _, operator = run()
    assert operator.get("/status")["door"] == "open"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_no_answer_even_where_the_file_would_let_it(run, tmp_path):
    server, operator = run()
    for path in (operator.path, *list(operator.path.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o007)
    ask = ("import os, socket, sys\n"
           "os.setgid(65534); os.setuid(65534)\n"
           "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
           "s.sendall(b'GET /status HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
           "try: print(len(s.recv(1000)))\n"
           "except ConnectionError: print(0)\n")
    done = subprocess.run([sys.executable, "-c", ask, str(operator.path)], capture_output=True,
                          text=True, timeout=PATIENCE)
    assert done.stdout == "0\n", done
    assert operator.get("/status")["door"] == "open"


def test_nothing_of_it_is_served_over_tcp(run):
    server, operator = run()
    for method, path in [("GET", "/status"), ("GET", "/requests"), ("GET", "/tenants"),
                         ("GET", "/keys"), ("POST", "/drain"), ("POST", "/reload"),
                         ("POST", "/cache/flush"), ("POST", "/keys/revoke"), ("POST", "/cancel")]:
        with Raw(server) as raw:
            raw.say(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert raw.answer()[0] == 404, path
    for path in ("/v1/chat/completions", "/health", "/v1/models"):
        assert operator.ask("GET", path)[0] == 404


# ---- what it shows


def test_status_tells_the_load_the_rates_and_the_waits(run):
    server, operator = run(script=[{"step_us": 5000, "generate": 100000}])
    raw = stream(server)
    status = wait_until(lambda: (now := operator.get("/status"))["recent"]["output_tokens_per_s"] >= 50 and now)
    assert status["engine"]["running"] == 1 and status["engine"]["waiting"] == 0
    assert status["kv"]["blocks_used"] >= 1 and status["requests"] == 1
    assert status["engine"]["output_tokens"] >= 50
    waits = status["recent"]["time_to_first_token"]
    assert waits["count"] >= 0
    gaps = status["recent"]["inter_token"]
    assert gaps["count"] > 10 and 0.002 <= gaps["p50_s"] <= gaps["p99_s"]
    raw.socket.close()
    server.wait_idle()
    metrics = operator.get("/metrics")
    assert "fathom_engine_steps_total" in metrics


def test_requests_are_shown_by_ids_and_numbers_alone(run, tmp_path):
    (key,) = make_file(tmp_path / "keys", "acme")
    server, operator = run("--keys", str(tmp_path / "keys"), "--max-seqs", "1", script=SLOW)
    header = f"Authorization: Bearer {key}"
    first = stream(server, header, "X-Request-Id: the-first", user_id="somebody")
    second = Raw(server)
    second.say(post(CHAT, chat("a secret question", max_tokens=10), header))
    wait_until(lambda: "queued" in stages(operator))
    text = operator.ctl("requests", "--json")
    a, b = json.loads(text)["requests"]
    assert (a["request_id"], a["tenant"], a["key"]) == ("the-first", "acme", "key-0")
    assert (a["stage"], a["stream"], a["route"], a["model"]) == (
        "running", True, "/chat/completions", "pilot")
    assert a["id"] < b["id"] and b["stage"] == "queued" and b["stream"] is False
    assert a["age_s"] >= b["age_s"] >= 0 and a["prompt_tokens"] > 0 and a["output_tokens"] > 0
    for word in ("secret", "question", "hello", "somebody", key):
        assert word not in text
    (acme,) = operator.get("/tenants")["tenants"]
    assert acme["name"] == "acme" and acme["running"] + acme["waiting"] == 2
    first.socket.close()
    second.socket.close()


def test_tenants_are_shown_with_what_they_use_of_their_limits(run, tmp_path):
    limits = {"running": 1, "queued": 3, "requests_per_minute": 60, "input_tokens_per_minute": 1000,
              "output_tokens_per_minute": 5000, "budget_tokens": 100000}
    quiet, busy = make_file(tmp_path / "keys", "quiet", {"name": "busy", "limits": limits})
    server, operator = run("--keys", str(tmp_path / "keys"), script=SLOW)
    raws = [stream(server, f"Authorization: Bearer {busy}")]
    raws.append(Raw(server))
    raws[1].say(post(CHAT, chat(max_tokens=10), f"Authorization: Bearer {busy}"))
    wait_until(lambda: operator.get("/tenants")["tenants"][0]["waiting"])
    first, second = operator.get("/tenants")["tenants"]
    assert (first["name"], second["name"]) == ("busy", "quiet")  # the busiest first
    assert (first["running"], first["waiting"]) == (1, 1) and first["limits"] == limits
    used = first["used"]
    assert 1 <= used["requests_per_minute"] <= 2 and used["input_tokens_per_minute"] > 0
    assert used["tokens"] > 0 and 0 < used["output_tokens_per_minute"] < 5000
    assert (second["running"], second["waiting"], second["limits"]) == (0, 0, {})
    line = operator.ctl("tenants").splitlines()[1].split()
    assert line[0] == "busy" and "5000" in line and "100000" in line
    for raw in raws:
        raw.socket.close()


# ---- what it does


@pytest.mark.parametrize("by", ["number", "request id"])
def test_cancel_ends_that_request_and_tells_its_client(run, by):
    server, operator = run(script=SLOW)
    one, other = stream(server, "X-Request-Id: one"), stream(server, "X-Request-Id: other")
    ids = {r["request_id"]: r["id"] for r in operator.get("/requests")["requests"]}
    word = str(ids["one"]) if by == "number" else "one"
    assert operator.ctl("cancel", word) == "1 cancelled\n"
    assert finishes(one) == ["insufficient_system_resource"]
    assert [r["id"] for r in operator.get("/requests")["requests"]] == [ids["other"]]
    assert "no request" in operator.ctl("cancel", word, code=1)
    other.socket.close()


def test_a_request_that_waits_is_cancelled_with_a_status(run):
    server, operator = run("--max-seqs", "1", script=SLOW)
    first = stream(server)
    second = Raw(server)
    second.say(post(CHAT, chat(max_tokens=10), "X-Request-Id: waits"))
    wait_until(lambda: "queued" in stages(operator))
    assert operator.post("/cancel", {"request_id": "waits"}) == {"cancelled": 1}
    status, _, body = second.answer()
    assert status == 503 and json.loads(body)["error"]["code"] == "cancelled"
    first.socket.close()


def test_a_request_whose_turn_came_a_moment_ago_is_cancelled_like_any_other(run, tmp_path):
    tenant = {"name": "acme", "limits": {"running": 1, "queued": 4}}
    [key] = make_file(tmp_path / "keys", tenant)
    server, operator = run("--keys", str(tmp_path / "keys"),
                           script=[{"step_us": 1000000, "generate": 100000}])
    first, second, third = stream(server, f"X-Api-Key: {key}"), Raw(server), Raw(server)
    second.say(post(CHAT, chat(max_tokens=1), f"X-Api-Key: {key}", "X-Request-Id: waits"))
    wait_until(lambda: "queued" in stages(operator))
    tenant["limits"]["running"] = 2
    keys = json.loads((tmp_path / "keys").read_text())
    (tmp_path / "keys").write_text(json.dumps({**keys, "tenants": [tenant]}))
    operator.post("/reload")
    first.buffer = b""
    first.until(b"data: ")  # a second without an event of the engine begins
    third.say(post(CHAT, chat(max_tokens=1), f"X-Api-Key: {key}")[:-2])  # the head tells of new limits
    time.sleep(0.2)  # to look would let the loop come to it
    assert operator.post("/cancel", {"request_id": "waits"}) == {"cancelled": 1}
    status, _, body = second.answer()
    assert status == 503 and json.loads(body)["error"]["code"] == "cancelled"
    for raw in (first, third):
        raw.socket.close()


@pytest.mark.parametrize("body,sentence", [
    ({}, "wanted either id"),
    ({"id": 1, "request_id": "x"}, "wanted either id"),
    ({"id": "1"}, "id: found a string, wanted an integer"),
    ({"id": 1.5}, "wanted an integer"),
    ({"request_id": 5}, "request_id: found an integer, wanted a string"),
    ({"ids": [1]}, "there is no such field"),
    ([1], "wanted a JSON object"),
    ("{", "line 1"),
    ("", "wanted a JSON object"),
])
def test_a_wrong_cancel_is_refused_with_a_sentence(scripted_operator, body, sentence):
    status, message = scripted_operator.refusal("/cancel", body)
    assert status == 400 and sentence in message, message


@pytest.mark.parametrize("id", [0, -1, 1, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_an_id_of_nobody_cancels_nothing(scripted_operator, id):
    assert scripted_operator.refusal("/cancel", {"id": id})[0] == 404


@pytest.fixture(scope="module")
def scripted_operator(tmp_path_factory):
    from conftest import Server

    path = tmp_path_factory.mktemp("operator") / "admin.sock"
    server = Server(["--backend", "scripted", "--header-timeout", "1s", "--admin-socket", str(path)])
    yield Operator(path)
    assert server.stop() == 0


def test_the_log_level_changes_at_once(run):
    server, operator = run()
    assert operator.ctl("log-level") == "info\n"
    assert operator.ctl("log-level", "debug") == "debug\n"
    server.get("/health")
    operator.get("/log-level")
    server.catch_up()
    assert any(e.get("level") == "debug" for e in server.events)
    assert "wanted error, warn" in operator.ctl("log-level", "loud", code=1)


def test_keys_are_made_and_revoked_while_it_runs(run, tmp_path):
    (old,) = make_file(tmp_path / "keys", "acme")
    server, operator = run("--keys", str(tmp_path / "keys"), script=SLOW)
    new = operator.ctl("keys", "new", "beta", "--scopes", "api,metrics", "--expires", "9d").strip()
    listed = {k["tenant"]: k for k in json.loads(operator.ctl("keys", "list", "--json"))["keys"]}
    assert set(listed) == {"acme", "beta"} and listed["beta"]["id"] == new.split(".")[0][7:]
    assert new.split(".")[1] not in json.dumps(listed)
    kept, ended = stream(server, f"Authorization: Bearer {old}"), stream(
        server, f"Authorization: Bearer {new}")
    operator.ctl("keys", "revoke", listed["beta"]["id"])
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(max_tokens=1), f"Authorization: Bearer {new}"))
        assert raw.answer()[0] == 401
    assert len(operator.get("/requests")["requests"]) == 2  # it had been let in
    assert "1 requests cancelled" in operator.ctl("keys", "revoke", "--now", listed["beta"]["id"])
    assert finishes(ended) == ["insufficient_system_resource"]
    (left,) = operator.get("/requests")["requests"]
    assert left["tenant"] == "acme"
    kept.socket.close()
    for words, sentence in [(["new", "a b"], "tenant"), (["new", "x", "--expires", "soon"], "expires"),
                            (["new", "x", "--scopes", "all"], "scopes"), (["revoke", "no"], "no")]:
        assert sentence in operator.ctl("keys", *words, code=1)


def test_without_a_key_file_there_are_no_keys_to_make(scripted_operator):
    status, message = scripted_operator.refusal("/keys", {"tenant": "acme"})
    assert status == 409 and "no key file" in message
    assert scripted_operator.get("/keys") == {"asked_for": False, "keys": []}


def test_the_cache_forgets_a_user_a_tenant_or_everything(run, tmp_path):
    keys = make_file(tmp_path / "keys", "acme", "beta")
    server, operator = run(
        "--backend", "cpu", "--keys", str(tmp_path / "keys"), "--cache-dir", str(tmp_path / "cache"),
        "--cache-size", "64MiB")
    text = " ".join(f"word{i}" for i in range(300))

    def hit(key, user):
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(text, max_tokens=1, user=user), f"Authorization: Bearer {key}"))
            status, _, body = raw.answer()
            assert status == 200, body
            return json.loads(body)["usage"]["prompt_tokens_details"]["cached_tokens"]

    def warm():
        for key in keys:
            for user in ("ann", "bob"):
                hit(key, user)
                assert hit(key, user) > 0

    warm()
    assert operator.ctl("cache", "purge", "acme", "--user", "ann") == "gone: 1 scopes\n"
    assert hit(keys[0], "ann") == 0 and hit(keys[0], "bob") > 0 and hit(keys[1], "ann") > 0
    assert operator.ctl("cache", "purge", "acme") == "gone: 2 scopes\n"
    assert hit(keys[0], "bob") == 0 and hit(keys[1], "bob") > 0
    assert operator.ctl("cache", "flush").startswith("gone: ")
    assert hit(keys[1], "bob") == 0
    assert "no tenant" in operator.ctl("cache", "purge", "nobody", code=1)
    assert "device" in operator.ctl("cache", "stat")


# ---- fathomctl


def test_wrong_words_are_code_2_and_no_daemon_is_code_3(scripted_operator, tmp_path):
    for words in ([], ["bogus"], ["cancel"], ["status", "more"], ["drain", "--now"], ["--nonsense"],
                  ["keys"], ["keys", "revoke"], ["status", "--socket"]):
        assert "usage: fathomctl" in scripted_operator.ctl(*words, code=2)
    assert "no daemon listens" in Operator(tmp_path / "none").ctl("status", code=3)
    (tmp_path / "file").touch()
    assert "no daemon listens" in Operator(tmp_path / "file").ctl("status", code=3)
    assert "terminal, or --once" in scripted_operator.ctl("top", code=2)
    said = subprocess.run([FATHOMD, "ctl", "--socket", str(scripted_operator.path), "status"],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert said.returncode == 0 and said.stdout.startswith("fathom ")


def test_top_once_is_for_scripts(scripted_operator):
    look = json.loads(scripted_operator.ctl("top", "--once", "--json"))
    assert set(look) == {"status", "tenants", "requests", "total"} and look["requests"] == []
    text = scripted_operator.ctl("top", "--once")
    assert "TENANT" in text and "STAGE" in text and "\x1b" not in text


def test_a_connection_that_says_nothing_useful_harms_nobody(scripted_operator):
    for text in (b"\0" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"POST /cancel HTTP/1.1\r\nHost: a\r\n"
                 b"Content-Type: application/json\r\nContent-Length: 9999999999999\r\n\r\n{}"):
        connection = Connection(scripted_operator.path)
        connection.connect()
        connection.sock.sendall(text)
        connection.sock.shutdown(socket.SHUT_WR)
        while connection.sock.recv(4096):
            pass
        connection.close()
    assert scripted_operator.get("/status")["door"] == "open"
