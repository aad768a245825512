"""Requests that are wrong: the exact status, field and sentence, and the daemon serves on.

The rules one by one are server/openai_in_test.c; here is what a client sees of them.
"""

import json
import urllib.error
import urllib.request

import openai
import pytest
from waiting import PATIENCE

USER = {"role": "user", "content": "hi"}


def post(server, body, path="/v1/chat/completions"):
    """Status and object of the answer to a body, given as bytes or as an object."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def asks(**more):
    return {"messages": [USER], "max_tokens": 1, **more}


BAD_JSON = {
    "nothing": (b"", "invalid JSON at line 1 column 0: unexpected token near end of file"),
    "cut": (b'{"messages":[', None),
    "a_tail": (b'{"messages":[]} x', None),
    "a_million_arrays": (b"[" * 1_000_000, "JSON is nested deeper than 128 levels"),
    "a_million_arrays_in_a_field":
        (b'{"messages":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
         "JSON is nested deeper than 128 levels"),
    "too_many_values":
        (b"[" + b"0," * 100_001 + b"0]", "JSON holds more than 100000 values"),
    "a_long_number":
        (b'{"seed":' + b"1" * 65 + b"}", "JSON holds a number of more than 64 characters"),
    "1e400": (b'{"temperature":1e400}', None),
    "no_utf8": (b'{"user":"\xff\xfe"}', None),
    "an_overlong_form": (b'{"user":"\xc0\x80"}', None),
    "a_raw_surrogate": (b'{"user":"\xed\xa0\x80"}', None),
    "a_control_character": (b'{"user":"\x01"}', None),
    "a_nul_in_a_key": (b'{"a\\u0000b":1}', None),
    "NaN": (b'{"temperature":NaN}', None),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_what_is_not_json_is_refused(scripted, name):
    body, sentence = BAD_JSON[name]
    status, answer = post(scripted, body)
    error = answer["error"]
    assert status == 400, answer
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == error["code"] == "invalid_request_error" and error["param"] is None
    if sentence:
        assert error["message"].startswith(sentence), error["message"]
    assert post(scripted, asks())[0] == 200


@pytest.mark.parametrize("body", [
    b'{"messages":[{"role":"user","content":"lone \\ud800 surrogate"}],"max_tokens":1}',
    b'{"messages":[{"role":"user","content":"nul \\u0000 byte"}],"max_tokens":1}',
    b'{"max_tokens":0,"messages":[{"role":"user","content":"x"}],"max_tokens":1}',
    b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1.0,"anything":{"at":"all"}}',
    b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1,"id":9223372036854775808}',
])
def test_what_is_odd_but_right_is_served(scripted, body):
    assert post(scripted, body)[0] == 200


def test_an_integer_that_no_field_can_hold_is_named(scripted):
    for field in ("seed", "max_tokens"):
        status, answer = post(scripted, asks(**{field: 1 << 63}))
        assert status == 400 and answer["error"]["param"] == field, answer


# Each: what is wrong, the field that is named, and the whole sentence after it.
BAD_FIELDS = [
    ({"messages": None}, "messages", "found nothing, wanted an array"),
    ({"messages": []}, "messages", "found 0 messages, wanted 1 to 8192"),
    ({"messages": "hi"}, "messages", "found a string, wanted an array"),
    ({"messages": [USER, 3]}, "messages[1]", "found an integer, wanted an object"),
    ({"temperature": -1}, "temperature", "found -1, wanted 0 to 2"),
    ({"temperature": "hot"}, "temperature", "found a string, wanted a number"),
    ({"top_p": 0}, "top_p", "found 0, wanted above 0 to 1"),
    ({"max_tokens": 0}, "max_tokens", "found 0, wanted 1 to 9223372036854775807"),
    ({"max_tokens": -(2**63)}, "max_tokens",
     "found -9223372036854775808, wanted 1 to 9223372036854775807"),
    ({"max_tokens": 1e308}, "max_tokens",
     "found 1e+308, wanted an integer from 1 to 9223372036854775807"),
    ({"n": 2}, "n", "found 2, wanted 1 to 1"),
    ({"seed": -1}, "seed", "found -1, wanted 0 to 9223372036854775807"),
    ({"stop": ["x"] * 17}, "stop", "found 17 strings, wanted at most 16"),
    ({"stop": "x" * 1025}, "stop", "found a string of 1025 bytes, wanted at most 1024"),
    ({"top_logprobs": 3}, "top_logprobs", "found 3, wanted logprobs: true with it"),
    ({"logit_bias": {"x": 1}}, "logit_bias", None),
    ({"stream_options": {"include_usage": True}}, "stream_options",
     "found an object, wanted stream: true with it"),
    ({"response_format": {"type": "xml"}}, "response_format.type",
     "found another word, wanted one of: text, json_object, json_schema"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort",
     "found another word, wanted one of: none, minimal, low, medium, high, xhigh, max, ultra"),
    ({"tool_choice": "required"}, "tool_choice",
     "found required without tools, wanted tools"),
    ({"user_id": "x" * 513}, "user_id", "found a string of 513 bytes, wanted at most 512"),
]


@pytest.mark.parametrize("wrong, field, sentence", BAD_FIELDS)
def test_a_wrong_field_is_named(scripted, wrong, field, sentence):
    status, answer = post(scripted, asks(**wrong))
    error = answer["error"]
    assert status == 400 and error["param"] == field, answer
    assert error["type"] == error["code"] == "invalid_request_error"
    assert error["message"].startswith(field + ": found ")
    if sentence:
        assert error["message"] == f"{field}: {sentence}"
    assert post(scripted, asks())[0] == 200


def test_an_unsupported_feature_has_its_own_code(scripted):
    status, answer = post(scripted, asks(messages=[
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]))
    assert status == 400 and answer["error"]["code"] == "unsupported_value"
    assert answer["error"]["param"] == "messages[0].content[0].type"
    schema = {"name": "a", "schema": {"not": {"type": "object"}}, "strict": True}
    status, answer = post(scripted, asks(response_format={"type": "json_schema",
                                                          "json_schema": schema}))
    assert status == 400 and answer["error"]["code"] == "unsupported_value"


def test_an_unknown_model_is_not_found(scripted):
    status, answer = post(scripted, asks(model="gpt-5"))
    assert status == 404 and answer["error"]["code"] == "model_not_found"
    assert answer["error"]["param"] == "model"
    with pytest.raises(openai.NotFoundError):
        scripted.client().chat.completions.create(model="gpt-5", messages=[USER])


def test_a_prompt_one_token_over_the_context(serve):
    server = serve("--context", "256")
    words = 0
    sizes = {}
    while sizes.get(words, 0) < 255:  # one more word, one more token
        words += 1
        status, answer = post(server, asks(messages=[{"role": "user", "content": "a " * words}]))
        if status == 400:
            break
        sizes[words] = answer["usage"]["prompt_tokens"]
    assert max(sizes.values()) == 255, "the longest prompt that leaves one token"
    fits = {"role": "user", "content": "a " * max(sizes)}
    over = {"role": "user", "content": "a " * (max(sizes) + 1)}
    assert post(server, asks(messages=[fits]))[0] == 200
    for wrong in (asks(messages=[over]), asks(messages=[fits], max_tokens=2)):
        status, answer = post(server, wrong)
        error = answer["error"]
        assert status == 400 and error["code"] == "context_length_exceeded"
        assert "256" in error["message"], "both numbers are told"
        assert "25" in error["message"].replace("256", "")


def test_the_openai_client_sees_a_bad_request(scripted_client):
    with pytest.raises(openai.BadRequestError) as raised:
        scripted_client.chat.completions.create(model="pilot", messages=[USER], temperature=9)
    assert raised.value.param == "temperature"
