"""Who is let in, how much they may have, and what they are told beyond it: with a key file of tenants."""

import datetime
import http.client
import json
import random
import re
import signal
import threading
import time

import anthropic
import openai
import pytest

from keyfile import make_file, make_key, write_file
from raw import Raw, chat, post
from waiting import PATIENCE, wait_until

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO = {"model": "pilot", "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
SLOW = {"step_us": 2000, "generate": 1000000}


def ask(server, key, path=CHAT, body=HELLO, method="POST", **more):
    """(status, headers by lower-case name, the answer as an object)"""
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    payload = json.dumps({**body, **more}) if method == "POST" else None
    connection.request(method, path, payload, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(text)


def metrics(server, key):
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
    connection.request("GET", "/metrics", headers={"X-Api-Key": key})
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    values = {}
    for line in lines:
        if line.startswith("fathom_"):
            name, _, value = line.rpartition(" ")
            values[name.removeprefix("fathom_")] = float(value)
    return values


def failures(server, key):
    """auth_failures_total by reason"""
    return {name.partition('reason="')[2].partition('"')[0]: value
            for name, value in metrics(server, key).items()
            if name.startswith("auth_failures_total") and value}


def hold(server, key, **more):
    """A request that runs until its connection is closed."""
    raw = Raw(server)
    raw.say(post(CHAT, chat(max_tokens=100000, stream=True, **more), f"X-Api-Key: {key}"))
    raw.until(b"data: ")
    return raw


# ---- the table of refusals (api.md 7, server.md 4) ---------------------------------------------------

NOBODY, UNKNOWN = "no key", "a key of nobody"

# tenant, key, asked before (each must do), asked then, held meanwhile: status, types of both protocols, code, what is told
REFUSALS = {
    "no key": ({}, NOBODY, [], {}, (401, "authentication_error", "authentication_error",
                                     "invalid_api_key"), "no API key was given"),
    "unknown key": ({}, UNKNOWN, [], {}, (401, "authentication_error", "authentication_error",
                                          "invalid_api_key"), "the API key is not valid"),
    "budget": ({"limits": {"budget_tokens": 2}}, {}, [], {},
               (402, "insufficient_quota", "billing_error", "insufficient_quota"), "2 are left"),
    "budget used up": ({"limits": {"budget_tokens": 15}}, {}, [{}], {},
                       (402, "insufficient_quota", "billing_error", "insufficient_quota"), "budget"),
    "scope": ({}, {"scopes": ["metrics"]}, [], {},
              (403, "permission_error", "permission_error", "permission_denied"), '"api"'),
    "tenant's models": ({"models": ["deepseek-chat"]}, {}, [{"model": "deepseek-chat"}], {},
                        (403, "permission_error", "permission_error", "permission_denied"),
                        "GET /v1/models"),
    "key's models": ({}, {"models": ["deepseek-chat"]}, [{"model": "deepseek-chat"}], {},
                     (403, "permission_error", "permission_error", "permission_denied"),
                     "GET /v1/models"),
    "priority below": ({"priority": [2, 4]}, {}, [{"priority": 2}, {}], {"priority": 1},
                       (403, "permission_error", "permission_error", "permission_denied"),
                       "found 1, wanted 2 to 4"),
    "priority above": ({"priority": [2, 4]}, {}, [{"priority": 4}], {"priority": 5},
                       (403, "permission_error", "permission_error", "permission_denied"),
                       "found 5, wanted 2 to 4"),
    "context": ({"limits": {"context": 12}}, {}, [{"max_tokens": 4}], {"max_tokens": 50},
                (400, "invalid_request_error", "invalid_request_error", "context_length_exceeded"),
                "wanted at most 12 together"),
    "output": ({"limits": {"output": 6}}, {}, [{"max_tokens": 6}], {},
               (400, "invalid_request_error", "invalid_request_error", "invalid_request_error"),
               "found 8, wanted at most 6"),
    "requests": ({"limits": {"requests_per_minute": 2}}, {}, [{}, {}], {},
                 (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
                 "its 2 requests"),
    "input tokens": ({"limits": {"input_tokens_per_minute": 6}}, {}, [{}], {},
                     (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
                     "its 6 tokens of prompts"),
    "output tokens": ({"limits": {"output_tokens_per_minute": 5}}, {}, [{}], {},
                      (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
                      "its 5 tokens of answers"),
    "running": ({"limits": {"running": 1}}, {}, "held", {},
                (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"), "under way"),
    "queued": ({"limits": {"running": 1, "queued": 1}}, {}, "held twice", {},
               (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"), "under way"),
    "a user's requests": ({"user_limits": {"requests_per_minute": 1}}, {},
                          [{"user_id": "a"}, {"user_id": "b"}, {}, {}], {"user_id": "a"},
                          (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
                          "this user"),
    "a user's running": ({"user_limits": {"running": 1}}, {}, "held by a user", {"user_id": "a"},
                         (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"),
                         "this user"),
    "bodies": ({}, {}, [], {"messages": [{"role": "user", "content": "long " * 500}]},
               (429, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"), "bytes"),
}


def prepare(server, key, before):
    """What is asked before; returns what must be kept open."""
    if before == "held":
        return [hold(server, key)]
    if before == "held by a user":
        return [hold(server, key, user_id="a")]
    if before == "held twice":
        second = Raw(server)
        first = hold(server, key)
        second.say(post(CHAT, chat(max_tokens=1), f"X-Api-Key: {key}"))
        wait_until(lambda: ask(server, key)[0] == 429)
        return [first, second]
    for body in before:
        status, _, answer = ask(server, key, **body)
        assert status == 200, answer
    return []


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(serve, tmp_path, case, path):
    tenant, fields, before, then, (status, kind, anthropic_kind, code), sentence = REFUSALS[case]
    known = isinstance(fields, dict)
    [key] = make_file(tmp_path / "keys", {"name": "acme", **tenant}, **(fields if known else {}))
    if not known:
        key = None if fields == NOBODY else make_key("nobody", "acme")[0]
    bodies = ["--tenant-bodies", "2KiB"] if case == "bodies" else []
    server = serve("--keys", str(tmp_path / "keys"), *bodies,
                   script=[SLOW if isinstance(before, str) else {"generate": 8}])
    kept = prepare(server, key, before)
    if path == MESSAGES and "user_id" in then:
        then = {"metadata": {"user_id": then["user_id"]}}
    found, headers, answer = ask(server, key, path, **then)
    assert found == status, answer
    error = answer["error"]
    assert sentence in error["message"], error
    if path == CHAT:
        assert (error["type"], error["code"]) == (kind, code) and set(error) == {
            "message", "type", "param", "code"}
    else:
        assert (answer["type"], error["type"]) == ("error", anthropic_kind)
    if status == 429:
        assert 1 <= int(headers["retry-after"]) <= 60 and "x-should-retry" not in headers
        assert 0 < int(headers["retry-after-ms"]) <= 60000
        assert int(headers["retry-after"]) * 1000 >= int(headers["retry-after-ms"])
    else:
        assert headers["x-should-retry"] == "false" and "retry-after" not in headers
    for raw in kept:
        raw.socket.close()


def test_whoever_knocks_with_a_bad_key_learns_nothing_from_the_answer(serve, tmp_path):
    metrics_key, watcher = make_key("watch", "acme", scopes=["metrics"])
    good, live = make_key("live", "acme")
    off, disabled = make_key("off", "acme", disabled=True)
    old, expired = make_key("old", "acme", expires="2026-01-31T12:00:00Z")
    write_file(tmp_path / "keys", [{"name": "acme"}], [watcher, live, disabled, expired])
    server = serve("--keys", str(tmp_path / "keys"), "--wrong-keys-per-minute", "100")
    bad = {"unknown": [make_key("nobody", "acme")[0], "none", "sk-" + "0" * 48, good + "0"],
           "wrong": [make_key("live", "acme")[0], make_key("off", "acme")[0]],
           "disabled": [off], "expired": [old]}
    answers = [ask(server, key) for keys in bad.values() for key in keys]
    assert {(status, json.dumps(answer)) for status, _, answer in answers} == {
        (401, json.dumps(answers[0][2]))}
    assert len({tuple(sorted(headers)) for _, headers, _ in answers}) == 1
    assert failures(server, metrics_key) == {why: len(keys) for why, keys in bad.items()}
    assert ask(server, good)[0] == 200
    for secret in [good, off, old, *sum(bad.values(), [])]:
        assert not any(secret.partition(".")[2][:40] in line for line in server.log
                       if secret.partition(".")[2])


def test_an_address_with_many_wrong_keys_waits_and_a_good_key_does_not(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", "acme", scopes=["api", "metrics"])
    server = serve("--keys", str(tmp_path / "keys"), "--wrong-keys-per-minute", "3")
    wrong = make_key("nobody", "acme")[0]
    assert [ask(server, wrong)[0] for _ in range(5)] == [401, 401, 401, 429, 429]
    status, headers, answer = ask(server, wrong, MESSAGES)
    assert status == 429 and answer["error"]["type"] == "rate_limit_error"
    assert 1 <= int(headers["retry-after"]) <= 20
    assert ask(server, key)[0] == 200
    assert metrics(server, key)['limit_refusals_total{model="pilot",limit="wrong_keys"}'] == 3


def test_scopes_part_work_from_watching(serve, tmp_path):
    api, of_api = make_key("api", "acme")
    watch, of_watch = make_key("watch", "acme", scopes=["metrics"])
    write_file(tmp_path / "keys", [{"name": "acme"}], [of_api, of_watch])
    server = serve("--keys", str(tmp_path / "keys"))
    for path, allowed in (("/metrics", watch), ("/v1/models", api), ("/user/balance", api)):
        for key in (api, watch):
            connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
            connection.request("GET", path, headers={"X-Api-Key": key})
            answer = connection.getresponse()
            assert answer.status == (200 if key == allowed else 403), path
            answer.read()
            connection.close()


def test_models_are_listed_as_far_as_the_key_goes(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "models": ["deepseek-chat", "pilot"]},
                      models=["deepseek-chat", "deepseek-reasoner"])
    server = serve("--keys", str(tmp_path / "keys"))
    client = server.client().with_options(api_key=key)
    assert [model.id for model in client.models.list()] == ["deepseek-chat"]
    assert client.models.retrieve("deepseek-chat").id == "deepseek-chat"
    with pytest.raises(openai.PermissionDeniedError):
        client.models.retrieve("pilot")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")
    bodies = {"/tokenize": {"prompt": "a"}, "/v1/completions": {"prompt": "a", "max_tokens": 1},
              "/v1/responses": {"input": "a"},
              "/v1/messages/count_tokens": {"messages": HELLO["messages"]}}
    for path, body in bodies.items():
        assert ask(server, key, path, {**body, "model": "pilot"})[0] == 403, path
        assert ask(server, key, path, {**body, "model": "deepseek-chat"})[0] == 200, path


# ---- what is left -----------------------------------------------------------------------------------

def test_headers_tell_what_is_left(serve, tmp_path):
    limits = {"requests_per_minute": 4, "input_tokens_per_minute": 60,
              "output_tokens_per_minute": 60}  # which fill slowly, however busy the machine
    key, free = make_file(tmp_path / "keys", {"name": "acme", "limits": limits}, "free")
    server = serve("--keys", str(tmp_path / "keys"), script=[{"generate": 8}])
    _, headers, answer = ask(server, key)
    tokens = answer["usage"]["prompt_tokens"]
    told = {name: headers["x-ratelimit-" + name] for name in (
        "limit-requests", "limit-tokens", "remaining-requests", "remaining-tokens")}
    assert (told["limit-requests"], told["limit-tokens"]) == ("4", "60")
    assert told["remaining-requests"] == "3"
    assert 60 - tokens <= int(told["remaining-tokens"]) < 60
    assert re.fullmatch(r"1?[0-9](\.\d{3})?s|\d+ms", headers["x-ratelimit-reset-requests"])
    assert re.fullmatch(r"\d+(\.\d{3})?s|\d+ms", headers["x-ratelimit-reset-tokens"])
    _, headers, answer = ask(server, key, MESSAGES)
    assert headers["anthropic-ratelimit-requests-limit"] == "4"
    assert headers["anthropic-ratelimit-requests-remaining"] == "2"
    assert 60 - 2 * tokens <= int(headers["anthropic-ratelimit-input-tokens-remaining"]) < 60
    assert 60 - 16 <= int(headers["anthropic-ratelimit-output-tokens-remaining"]) < 60
    reset = datetime.datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert -60 < reset.timestamp() - time.time() < 32
    assert not any("ratelimit" in name for name in ask(server, free)[1])
    assert "x-ratelimit-limit-requests" in ask(server, key, "/v1/models", method="GET")[1]


def test_balance_is_the_budget(serve, tmp_path):
    key, free = make_file(tmp_path / "keys", {"name": "acme", "limits": {"budget_tokens": 100}}, "free")
    server = serve("--keys", str(tmp_path / "keys"), script=[{"generate": 8}])

    def balance(key):
        return ask(server, key, "/user/balance", method="GET")[2]

    def info(amount):
        return [{"currency": "TOKENS", "total_balance": str(amount), "granted_balance": str(amount),
                 "topped_up_balance": "0"}]

    assert balance(free) == {"is_available": True, "balance_infos": []}
    assert balance(key) == {"is_available": True, "balance_infos": info(100)}
    usage = ask(server, key)[2]["usage"]
    assert balance(key)["balance_infos"] == info(100 - usage["total_tokens"])
    while ask(server, key)[0] == 200:
        pass
    left = int(balance(key)["balance_infos"][0]["total_balance"])
    assert left < usage["prompt_tokens"]


def test_a_budget_goes_on_where_the_usage_log_left_it(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"budget_tokens": 100}})
    arguments = ["--keys", str(tmp_path / "keys"), "--usage-log", str(tmp_path / "usage")]
    server = serve(*arguments, script=[{"generate": 8}])
    used = sum(ask(server, key)[2]["usage"]["total_tokens"] for _ in range(3))
    assert server.stop() == 0
    for log, left in ((True, 100 - used), (False, 100)):
        server = serve(*(arguments if log else arguments[:2]))
        info = ask(server, key, "/user/balance", method="GET")[2]["balance_infos"][0]
        assert int(info["total_balance"]) == left
        assert server.stop() == 0


def test_what_was_refused_has_cost_nothing(serve, tmp_path):
    limits = {"requests_per_minute": 4, "input_tokens_per_minute": 60, "running": 1}
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": limits})
    server = serve("--keys", str(tmp_path / "keys"), script=[SLOW])
    raw = hold(server, key)
    levels = [ask(server, key)[1] for _ in range(20)]
    raw.socket.close()
    assert int(levels[0]["x-ratelimit-remaining-requests"]) == 3
    for name in ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"):
        left = [int(h[name]) for h in levels]
        assert left == sorted(left), "it only fills"


def queue_of(server, key):
    """(running, waiting), as operators see it"""
    now = metrics(server, key)
    return tuple(sum(value for name, value in now.items() if name.startswith(what))
                 for what in ("requests_running", "requests_waiting"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_waits_for_its_turn_among_its_tenants(serve, tmp_path, stream):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"running": 1, "queued": 2}},
                      scopes=["api", "metrics"])
    server = serve("--keys", str(tmp_path / "keys"), script=[{"step_us": 5000, "generate": 200}])
    client = server.client().with_options(api_key=key)
    tokens = []

    def talk():
        more = {"stream_options": {"include_usage": True}} if stream else {}
        answer = client.chat.completions.create(**{**HELLO, "max_tokens": 200}, stream=stream, **more)
        tokens.append((list(answer)[-1] if stream else answer).usage.completion_tokens)

    threads = [threading.Thread(target=talk) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = set()
    while len(tokens) < 3 and any(thread.is_alive() for thread in threads):
        seen.add(queue_of(server, key))
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert tokens == [200] * 3
    assert {(1, 2), (1, 1)} & seen and max(running for running, _ in seen) == 1, seen


@pytest.mark.parametrize("stream", [True, False])
def test_who_waits_for_its_turn_does_so_no_longer_than_the_queue_wait(serve, tmp_path, stream):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"running": 1, "queued": 2}})
    server = serve("--keys", str(tmp_path / "keys"), "--queue-wait", "1s", script=[SLOW])
    raw = hold(server, key)
    status, headers, answer = ask(server, key, stream=stream)
    assert status == 503 and "retry-after" in headers
    with Raw(server) as impatient:
        impatient.say(post(CHAT, chat(max_tokens=1), f"X-Api-Key: {key}",
                           "X-Request-Timeout: 0.1"))
        status, _, body = impatient.answer()
        assert status == 503 and json.loads(body)["error"]["code"] == "deadline_exceeded"
    raw.socket.close()
    wait_until(lambda: ask(server, key, max_tokens=1)[0] == 200)


def test_a_tenant_without_limits_leaves_room_in_the_queue_for_others(serve, tmp_path):
    greedy, polite = make_file(tmp_path / "keys", {"name": "greedy"}, {"name": "polite"})
    server = serve("--keys", str(tmp_path / "keys"), "--queue-length", "14", "--max-seqs", "2",
                   "--max-batch-tokens", "256", script=[{"step_us": 10000, "generate": 20}])
    raws = [Raw(server) for _ in range(30)]
    for raw in raws:
        raw.say(post(CHAT, chat(max_tokens=20), f"X-Api-Key: {greedy}"))
    assert ask(server, polite)[0] == 200
    answers = [raw.answer() for raw in raws]
    refused = [body for status, _, body in answers if status == 503]
    assert 0 < len(refused) < 30
    assert all(b"as far as one tenant may fill it" in body for body in refused)


def test_a_stream_that_began_before_its_turn_is_told_within_it_that_there_is_no_room(serve, tmp_path):
    limited = {"name": "acme", "limits": {"running": 1, "queued": 1}}
    acme, other = make_file(tmp_path / "keys", limited, "other")
    server = serve("--keys", str(tmp_path / "keys"), "--max-seqs", "1", "--queue-length", "3",
                   "--max-n", "4", script=[SLOW])
    first, waiting, rest = hold(server, acme), Raw(server), Raw(server)
    waiting.say(post(CHAT, chat(max_tokens=1, stream=True, n=2), f"X-Api-Key: {acme}"))
    rest.say(post(CHAT, chat(max_tokens=100000, stream=True, n=3), f"X-Api-Key: {other}"))
    waiting.until(b"\r\n\r\n")  # after five seconds
    first.socket.close()  # its place in the engine is one, and two are needed
    while waiting.more() and b"[DONE]" not in waiting.buffer:
        pass
    text = waiting.buffer.decode()
    assert text.count('"finish_reason":"insufficient_system_resource"') == 2, text
    assert '"error"' not in text and "data: [DONE]" in text
    rest.socket.close()


def test_a_deadline_gives_no_request_of_the_minute_back(serve, tmp_path):
    limited = {"name": "acme", "limits": {"requests_per_minute": 2}}
    [key] = make_file(tmp_path / "keys", limited)
    server = serve("--keys", str(tmp_path / "keys"), script=[SLOW])
    statuses = []
    for _ in range(3):
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(max_tokens=1), f"X-Api-Key: {key}", "X-Request-Timeout: 0.000001"))
            statuses.append(raw.answer()[0])
    assert statuses == [503, 503, 429]


def test_a_client_that_leaves_leaves_its_place(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"running": 2, "queued": 2}})
    server = serve("--keys", str(tmp_path / "keys"), script=[SLOW])
    for _ in range(5):
        raws = [hold(server, key), hold(server, key), Raw(server), Raw(server)]
        for raw in raws[2:]:
            raw.say(post(CHAT, chat(max_tokens=1, stream=True), f"X-Api-Key: {key}"))
        wait_until(lambda: ask(server, key)[0] == 429)
        for raw in raws:
            raw.socket.close()
        wait_until(lambda: ask(server, key, max_tokens=1)[0] == 200)


def test_who_waits_for_its_turn_is_seen_waiting_and_served_by_a_drain(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"running": 1, "queued": 2}},
                      scopes=["api", "metrics"])
    server = serve("--keys", str(tmp_path / "keys"), "--drain-delay", "0",
                   script=[{"step_us": 2000, "generate": 200}])
    raws = [Raw(server) for _ in range(3)]
    for raw in raws:
        raw.say(post(CHAT, chat(max_tokens=200), f"X-Api-Key: {key}"))
    wait_until(lambda: queue_of(server, key) == (1, 2))
    server.process.send_signal(signal.SIGTERM)
    for raw in raws:
        status, _, body = raw.answer()
        assert status == 200 and json.loads(body)["usage"]["completion_tokens"] == 200
    assert server.ended() == 0


def test_who_waits_for_its_turn_is_told_when_the_daemon_is_cut_short(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"running": 1, "queued": 2}},
                      scopes=["api", "metrics"])
    server = serve("--keys", str(tmp_path / "keys"), "--drain-delay", "0", script=[SLOW])
    raw, waiting = hold(server, key), Raw(server)
    waiting.say(post(CHAT, chat(max_tokens=1), f"X-Api-Key: {key}"))
    wait_until(lambda: queue_of(server, key) == (1, 1))
    for event in ("draining", "cutting"):
        server.process.send_signal(signal.SIGTERM)
        server.wait_said(event)
    status, _, body = waiting.answer()
    assert status == 503 and json.loads(body)["error"]["code"] == "draining"
    raw.until(b"insufficient_system_resource")
    assert server.ended() == 0


def test_no_place_is_lost_whatever_clients_do(serve, tmp_path):
    limits = {"running": 4, "queued": 8, "input_tokens_per_minute": 1000000, "context": 5000}
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": limits,
                                          "user_limits": {"running": 2, "queued": 3}},
                      scopes=["api", "metrics"])
    server = serve("--keys", str(tmp_path / "keys"), "--limit-users", "3",
                   script=[{"step_us": 500, "generate": 1000000}])

    seen = set()

    def one(dice):
        raw = Raw(server)
        body = chat(max_tokens=dice.choice([1, 60]), stream=dice.random() < 0.5,
                    user_id=dice.choice("abcde"), priority=dice.choice([0, 5]))
        what = dice.randrange(8)
        if what == 0:
            body = b"{" * 100
        if what == 1:
            body = chat(model="nothing")
        if what == 2:
            body = chat(max_tokens=6000)
        more = ["X-Request-Timeout: 0.05"] if what == 3 else []
        said = post(dice.choice([CHAT, MESSAGES]), body, f"X-Api-Key: {key}", *more)
        raw.say(said[:dice.randrange(len(said))] if what == 4 else said)
        if what > 4:
            time.sleep(dice.random() * 0.1)
        elif what < 4:
            seen.add(raw.answer()[0])
        raw.socket.close()

    def many(seed):
        dice = random.Random(seed)
        for _ in range(25):
            one(dice)

    threads = [threading.Thread(target=many, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {200, 400, 404, 429} <= seen, seen
    wait_until(lambda: queue_of(server, key) == (0, 0))
    raws = [Raw(server) for _ in range(12)]
    for raw in raws:
        raw.say(post(CHAT, chat(max_tokens=4900, stream=True), f"X-Api-Key: {key}"))
    wait_until(lambda: queue_of(server, key) == (4, 8))
    assert ask(server, key)[0] == 429
    for raw in raws:
        raw.socket.close()
    wait_until(lambda: queue_of(server, key) == (0, 0))


# ---- what clients make of it ------------------------------------------------------------------------

def test_openais_client_waits_as_long_as_it_is_told(serve, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "acme", "limits": {"requests_per_minute": 100}})
    server = serve("--keys", str(tmp_path / "keys"), script=[{"generate": 1}])
    client = server.client().with_options(api_key=key)
    with pytest.raises(openai.RateLimitError) as refused:
        while True:
            client.with_options(max_retries=0).chat.completions.create(**HELLO)
    assert 0 < int(refused.value.response.headers["retry-after-ms"]) <= 600
    assert refused.value.code == "rate_limit_exceeded" and refused.value.type == "rate_limit_error"
    assert client.with_options(max_retries=1).chat.completions.create(**HELLO).choices


def test_openais_client_does_not_try_again_where_it_cannot_help(serve, tmp_path):
    tenants = [{"name": "poor", "limits": {"budget_tokens": 1}},
               {"name": "other", "models": ["deepseek-chat"]}]
    poor, other = make_file(tmp_path / "keys", *tenants)
    server = serve("--keys", str(tmp_path / "keys"))
    client = server.client(max_retries=5)
    for key, kind, code in ((poor, openai.APIStatusError, "insufficient_quota"),
                            (other, openai.PermissionDeniedError, "permission_denied"),
                            (poor + "0", openai.AuthenticationError, "invalid_api_key")):
        with pytest.raises(kind) as refused:
            client.with_options(api_key=key).chat.completions.create(**HELLO)
        assert refused.value.code == code
    assert len(server.requests_logged()) == 3


def test_anthropics_client_reads_the_same(serve, tmp_path):
    tenants = [{"name": "busy", "limits": {"requests_per_minute": 100}},
               {"name": "poor", "limits": {"budget_tokens": 1}}]
    busy, poor = make_file(tmp_path / "keys", *tenants)
    server = serve("--keys", str(tmp_path / "keys"), script=[{"generate": 1}])

    def client(key, retries):
        return anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=retries).messages

    with pytest.raises(anthropic.RateLimitError) as refused:
        impatient = client(busy, 0)
        while True:
            impatient.create(**HELLO)
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert client(busy, 1).create(**HELLO).content
    with pytest.raises(anthropic.APIStatusError) as refused:
        client(poor, 5).create(**HELLO)
    assert refused.value.status_code == 402
    assert refused.value.body["error"]["type"] == "billing_error"
    with pytest.raises(anthropic.AuthenticationError):
        client("none", 5).create(**HELLO)


# ---- keys that come and go --------------------------------------------------------------------------

def reload(server):
    before = sum(e.get("event") == "reload" for e in server.events)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: sum(e.get("event") == "reload" for e in server.events) > before)


def test_keys_rotate_while_their_tenant_works_on(serve, tmp_path):
    path = tmp_path / "keys"
    first, of_first = make_key("first", "acme")
    second, of_second = make_key("second", "acme")
    tenant = {"name": "acme", "limits": {"requests_per_minute": 5}}
    write_file(path, [tenant], [of_first])
    server = serve("--keys", str(path), script=[SLOW])
    raw = hold(server, first)
    assert (ask(server, first, max_tokens=1)[0], ask(server, second, max_tokens=1)[0]) == (200, 401)
    write_file(path, [tenant], [of_first, of_second])
    reload(server)
    assert ask(server, first, max_tokens=1)[0] == ask(server, second, max_tokens=1)[0] == 200
    write_file(path, [tenant], [of_second])
    reload(server)
    assert ask(server, first)[0] == 401
    raw.until(b"data: ")  # what was let in goes on
    assert ask(server, second, max_tokens=1)[0] == 200
    # the tenant's limits have seen it all: five of five, and in twelve seconds one more
    assert 429 in [ask(server, second, max_tokens=1)[0] for _ in range(3)]
    raw.socket.close()


def test_a_key_works_until_its_hour(serve, tmp_path):
    make_file(tmp_path / "keys", "acme")
    server = serve("--keys", str(tmp_path / "keys"), script=[SLOW])
    for seconds in (2, 8, 32):  # until it is long enough for this machine to come in
        hour = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        [key] = make_file(tmp_path / "keys", "acme", expires=hour.strftime("%Y-%m-%dT%H:%M:%SZ"))
        reload(server)
        raw = Raw(server)
        raw.say(post(CHAT, chat(max_tokens=100000, stream=True), f"X-Api-Key: {key}"))
        if b" 200 " in raw.until(b"\r\n"):
            break
    wait_until(lambda: ask(server, key, max_tokens=1)[0] == 401)
    raw.until(b"data: ")
    raw.socket.close()


@pytest.mark.parametrize("change,sentence", [
    (lambda file: file["tenants"][0].update(weight=0), "tenants[0].weight: found 0"),
    (lambda file: file["keys"][0].update(key="fathom_a.b"), "keys[0].key: found a plain key"),
    (lambda file: file["keys"][0].update(tenant="nobody"), "keys[0]: found a tenant that is not"),
    (lambda file: file["keys"][0].update(salt="00"), "keys[0].salt"),
    (lambda file: file.update(extra=1), "extra: found an unknown field"),
])
def test_a_wrong_key_file_is_named_at_the_start(tmp_path, change, sentence):
    import subprocess

    from conftest import FATHOMD, MODEL, ROOT

    path = tmp_path / "keys"
    make_file(path, "acme")
    file = json.loads(path.read_text())
    change(file)
    write_file(path, file["tenants"], file["keys"])
    path.write_text(json.dumps(file))
    done = subprocess.run([FATHOMD, "serve", "--model", MODEL, "--backend", "scripted", "--keys",
                           str(path), "--listen", "127.0.0.1:0", "--allow-root"],
                          capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
