"""The table of errors: what is refused, with which status, type, code and headers; and every field of
every request given something else than it wants. After each the daemon serves on."""

import json
import re

import openai
import pytest

from conftest import Server
from raw import Raw, chat, post
from waiting import PATIENCE

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ENDLESS = {"step_us": 2000, "generate": 1000000}
KEYS = {"message", "type", "param", "code"}


def said(server, data):
    """Status, headers and error object of one request."""
    with Raw(server, timeout=PATIENCE) as raw:
        raw.say(data if isinstance(data, bytes) else post(*data))
        status, headers, body = raw.answer()
        return status, headers, json.loads(body).get("error")


# name: (request, status, type, code, param)
TABLE = {
    "bad JSON": ((CHAT, b"{"), 400, "invalid_request_error", "invalid_request_error", None),
    "no JSON at all": ((CHAT, b""), 400, "invalid_request_error", "invalid_request_error", None),
    "bad field": ((CHAT, chat(top_p=2)), 400, "invalid_request_error", "invalid_request_error", "top_p"),
    "conflict": ((CHAT, chat(top_logprobs=1)), 400, "invalid_request_error", "invalid_request_error",
                 "top_logprobs"),
    "unsupported": ((CHAT, chat(guided_json={})), 400, "invalid_request_error", "unsupported_value", "guided_json"),
    "too long": ((CHAT, chat("a " * 5000)), 400, "invalid_request_error", "context_length_exceeded", "messages"),
    "too much": ((CHAT, chat(max_tokens=1000)), 400, "invalid_request_error", "context_length_exceeded",
                 "max_tokens"),
    "too long a prompt": ((COMPLETIONS, {"prompt": "a " * 5000}), 400, "invalid_request_error",
                          "context_length_exceeded", "prompt"),
    "unknown path": ((CHAT + "/x", chat()), 404, "not_found_error", "not_found", None),
    "unknown model": ((CHAT, {**chat(), "model": "gpt-5"}), 404, "not_found_error", "model_not_found", "model"),
    "unknown model in the path": (b"GET /v1/models/gpt-5 HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not_found_error",
                                  "model_not_found", "model"),
    "wrong method": (b"GET /v1/completions HTTP/1.1\r\nHost: a\r\n\r\n", 405, "not_found_error",
                     "method_not_allowed", None),
    "too large": ((CHAT, b"x" * 2_000_000), 413, "request_too_large", "request_too_large", None),
}


@pytest.fixture(scope="module")
def small():
    server = Server(["--backend", "scripted", "--context", "512", "--body-limit", "1MiB"])
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("name", TABLE)
def test_each_refusal_has_its_row(small, name):
    request, status, kind, code, param = TABLE[name]
    found, headers, error = said(small, request)
    assert (found, error["type"], error["code"], error["param"]) == (status, kind, code, param), error
    assert set(error) == KEYS and re.fullmatch(r"[^\n]{10,400}", error["message"])
    assert headers["content-type"] == "application/json" and headers["x-request-id"]
    assert headers["x-should-retry"] == "false" and "retry-after" not in headers
    assert ("allow" in headers) == (status == 405)
    assert said(small, (CHAT, chat(max_tokens=1)))[0] == 200


def test_another_media_type_is_415(small):
    body = json.dumps(chat()).encode()
    for media, status in (("text/html", 415), ("application/x-www-form-urlencoded", 415),
                          ("application/json", 200), ("Application/JSON; charset=utf-8", 200)):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        found, _, error = said(small, head.encode() + body)
        assert found == status, (media, error)
        assert status == 200 or error["code"] == "unsupported_media_type"


def test_what_may_be_tried_again_says_when(serve):
    server = serve("--max-seqs", "1", "--queue-length", "1", script=[ENDLESS])
    with Raw(server) as first, Raw(server) as second:
        for raw in (first, second):
            raw.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        while server.metrics()["requests_waiting"] < 1:
            pass
        status, headers, error = said(server, (CHAT, chat()))
        assert (status, error["type"], error["code"]) == (503, "service_unavailable", "overloaded")
        assert int(headers["retry-after"]) >= 1 and int(headers["retry-after-ms"]) >= 1
        assert "x-should-retry" not in headers
        with pytest.raises(openai.InternalServerError):
            server.client().chat.completions.create(model="pilot", messages=chat()["messages"])


def test_an_engine_that_fails_says_so_whole_and_streamed(serve):
    server = serve(script=[{"tokens": [70, 71], "finish": "failed"}])
    status, _, error = said(server, (CHAT, chat()))
    assert (status, error["type"], error["code"]) == (503, "service_unavailable", "engine_failed")
    with pytest.raises(openai.APIError):
        for _ in server.client().chat.completions.create(model="pilot", messages=chat()["messages"], stream=True):
            pass
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(stream=True)))
        _, headers, body = raw.answer()
        assert headers["content-type"] == "text/event-stream" and b"[DONE]" not in body
        last = body.decode().rstrip().split("\n\n")[-1]
        assert set(json.loads(last.removeprefix("data: "))["error"]) == KEYS


def test_each_error_is_the_clients_own_exception(small):
    client = small.client()
    for more, wanted in (({"temperature": 9}, openai.BadRequestError),
                         ({"model": "gpt-5"}, openai.NotFoundError),
                         ({"max_tokens": 1000}, openai.BadRequestError)):
        with pytest.raises(wanted):
            client.chat.completions.create(**{"model": "pilot", "messages": chat()["messages"], **more})


# What each field takes: n number, i integer, b boolean, s string, a array, o object.
CHAT_FIELDS = {
    "model": "s", "messages": "a", "stream": "b", "stream_options": "o", "max_tokens": "i",
    "max_completion_tokens": "i", "temperature": "n", "top_p": "n", "top_k": "i", "min_p": "n",
    "frequency_penalty": "n", "presence_penalty": "n", "repetition_penalty": "n", "repeat_penalty": "n",
    "stop": "sa", "stop_token_ids": "a", "ignore_eos": "b", "min_tokens": "i", "seed": "i", "n": "i",
    "logprobs": "b", "top_logprobs": "i", "logit_bias": "o", "response_format": "o", "tools": "a",
    "tool_choice": "so", "parallel_tool_calls": "b", "thinking": "bo", "reasoning_effort": "s",
    "chat_template_kwargs": "o", "include_reasoning": "b", "separate_reasoning": "b", "user_id": "s",
    "user": "s", "safety_identifier": "s", "cache_salt": "s", "priority": "i", "modalities": "a",
    "continue_final_message": "b", "add_generation_prompt": "b", "think": "b", "store": "b",
    "prompt_cache_key": "s", "prompt_cache_retention": "s", "service_tier": "s", "verbosity": "s",
    "request_id": "s", "metadata": "o", "prediction": "o", "web_search_options": "o", "echo": "b",
    "return_token_ids": "b", "deepseek_usage": "b",
}
ABSENT = ["audio", "structured_outputs", "guided_json", "guided_regex",
          "guided_choice", "guided_grammar", "regex", "grammar"]
COMPLETION_FIELDS = {
    "prompt": "sa", "suffix": "s", "echo": "b", "best_of": "i", "n": "i", "logprobs": "i",
    "add_special_tokens": "b", **{name: kind for name, kind in CHAT_FIELDS.items() if name in (
        "model", "stream", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
        "stop_token_ids", "ignore_eos", "min_tokens", "logit_bias", "user_id", "priority")}}
VALUES = {"i": [7, -1, 10**30], "n": [0.5, -1e300, 1e300], "b": [True], "s": ["word"], "a": [[{}]],
          "o": [{"x": []}]}


@pytest.mark.parametrize("path, fields, base", [
    (CHAT, CHAT_FIELDS, chat(max_tokens=1)),
    (COMPLETIONS, COMPLETION_FIELDS, {"prompt": "a", "max_tokens": 1}),
])
def test_every_field_refuses_every_other_type_by_name(scripted, path, fields, base):
    with Raw(scripted, timeout=PATIENCE) as raw:
        for field, wanted in fields.items():
            for kind, values in VALUES.items():
                if kind in wanted or (kind == "i" and "n" in wanted):
                    continue
                for value in values:
                    raw.say(post(path, {**base, field: value}))
                    status, _, body = raw.answer()
                    error = json.loads(body)["error"]
                    if isinstance(value, int) and value > 2**63:
                        assert status == 400, (field, body)  # refused by the JSON reader already
                        continue
                    assert status == 400 and error["param"] == field, (field, value, error)
                    assert error["message"].startswith(f"{field}: found "), error
                    assert ", wanted " in error["message"], error
        raw.say(post(path, base))
        assert raw.answer()[0] == 200


# The numbers that each field refuses, and its own words for what it wants.
RANGES = [
    ("temperature", [-0.1, 2.1, -1e308, 1e308], "wanted 0 to 2"),
    ("top_p", [0, -1, 1.1, 1e308], "wanted above 0 to 1"),
    ("min_p", [-0.1, 1.1], "wanted 0 to 1"),
    ("frequency_penalty", [-2.1, 2.1], "wanted -2 to 2"),
    ("presence_penalty", [-2.1, 2.1], "wanted -2 to 2"),
    ("repetition_penalty", [0, -1, 10.1], "wanted above 0 to 10"),
    ("top_k", [-2, 2**31, 2**63 - 1], "wanted -1 to 2147483647"),
    ("seed", [-1, -(2**63)], "wanted 0 to 9223372036854775807"),
    ("max_tokens", [0, -1, -(2**63)], "wanted 1 to 9223372036854775807"),
    ("max_completion_tokens", [0, -1], "wanted 1 to 9223372036854775807"),
    ("min_tokens", [-1, 2**31], "wanted 0 to 2147483647"),
    ("n", [0, -1, 2, 2**62], None),
    ("priority", [-1, 2**31], "wanted 0 to 2147483647"),
]


@pytest.mark.parametrize("field, values, wanted", RANGES)
def test_numbers_out_of_range_are_refused_with_what_was_found(scripted, field, values, wanted):
    for value in values:
        status, _, error = said(scripted, (CHAT, chat(**{field: value})))
        assert (status, error["param"]) == (400, field), (value, error)
        assert error["message"].startswith(f"{field}: found {value:g}," if isinstance(value, float)
                                           else f"{field}: found {value},")
        assert wanted is None or error["message"].endswith(wanted), error
    if all(isinstance(value, int) for value in values):
        status, _, error = said(scripted, (CHAT, chat(**{field: 1.5})))
        assert status == 400 or field in ("top_p", "repetition_penalty"), error
    assert said(scripted, (CHAT, chat(max_tokens=1)))[0] == 200


def test_numbers_that_json_cannot_hold_are_refused(scripted):
    for number in (b"1e400", b"-1e400", b"9223372036854775808", b"1" * 65, b"01", b"+1", b"NaN", b"Infinity",
                   b"0x10", b"1.", b".5"):
        for field in (b"temperature", b"seed", b"max_tokens"):
            body = b'{"messages":[{"role":"user","content":"x"}],"' + field + b'":' + number + b"}"
            assert said(scripted, (CHAT, body))[0] == 400, (field, number)
    assert said(scripted, (CHAT, chat(max_tokens=1)))[0] == 200


@pytest.mark.parametrize("field", ABSENT)
def test_what_this_server_cannot_do_is_refused_and_null_is_not(scripted, field):
    status, _, error = said(scripted, (CHAT, chat(max_tokens=1, **{field: {"a": 1}})))
    assert (status, error["code"], error["param"]) == (400, "unsupported_value", field)
    assert said(scripted, (CHAT, chat(max_tokens=1, **{field: None})))[0] == 200


def test_null_is_absence_in_every_field(scripted):
    nulls = dict.fromkeys(name for name in CHAT_FIELDS if name not in ("model", "messages"))
    assert said(scripted, (CHAT, chat(**{**nulls, "max_tokens": 1})))[0] == 200
    nulls = dict.fromkeys(name for name in COMPLETION_FIELDS if name not in ("model", "prompt"))
    assert said(scripted, (COMPLETIONS, {**nulls, "prompt": "a"}))[0] == 200


def test_unknown_fields_are_ignored_or_by_option_refused(scripted, serve):
    assert said(scripted, (CHAT, chat(max_tokens=1, frobnicate=1)))[0] == 200
    strict = serve("--strict-fields")
    status, _, error = said(strict, (CHAT, chat(frobnicate=1)))
    assert (status, error["param"]) == (400, "frobnicate")
    assert error["message"] == "frobnicate: found an unknown field, wanted none"


def test_what_openai_knows_and_this_server_need_not_is_accepted(scripted):
    ignored = {"store": True, "metadata": {"a": "b"}, "verbosity": "low", "service_tier": "auto",
               "modalities": ["text"], "prediction": {"type": "content", "content": "x"},
               "web_search_options": {}, "prompt_cache_key": "k", "safety_identifier": "s", "think": True,
               "stream": True, "stream_options": {"include_obfuscation": False, "include_usage": False}}
    with Raw(scripted) as raw:
        raw.say(post(CHAT, chat(max_tokens=1, **ignored)))
        status, _, body = raw.answer()
        assert status == 200 and b'"service_tier":"default"' in body and b'"usage"' not in body


def test_any_model_may_be_served(serve):
    server = serve("--accept-any-model")
    with Raw(server) as raw:
        raw.say(post(CHAT, {**chat(max_tokens=1), "model": "gpt-5"}))
        status, _, body = raw.answer()
        assert status == 200 and json.loads(body)["model"] == "gpt-5"


@pytest.mark.parametrize("body, wanted", [
    ("DeepSeek's own names put the usage on the last chunk", {"model": "deepseek-chat"}),
    ("so does the field", {"deepseek_usage": True}),
])
def test_usage_stands_where_deepseeks_clients_look(scripted, body, wanted):
    with Raw(scripted) as raw:
        raw.say(post(CHAT, {**chat(max_tokens=2, stream=True), **wanted}))
        events = raw.answer()[2].decode().split("\n\n")
    assert events[-2] == "data: [DONE]"
    last = json.loads(events[-3].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length" and last["usage"]["completion_tokens"] == 2
