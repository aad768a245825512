"""Log-probabilities: those of the content's tokens, each once, and true to what is sampled."""

import math

import pytest

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def ask(client, messages=CAPITAL, thinking=False, **more):
    more = {"temperature": 0, "max_tokens": 80, "logprobs": True, **more}
    return client.chat.completions.create(model="pilot", messages=messages,
                                          extra_body={"thinking": thinking}, **more)


def entries(answer):
    return answer.choices[0].logprobs.content


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("top", [None, 0, 1, 5, 20])
def test_the_tokens_make_the_content(client, top, thinking):
    answer = ask(client, thinking=thinking, **({} if top is None else {"top_logprobs": top}))
    found = entries(answer)
    assert b"".join(bytes(e.bytes) for e in found).decode() == answer.choices[0].message.content
    assert "".join(e.token for e in found) == answer.choices[0].message.content
    for e in found:
        assert -20 < e.logprob <= 0 and len(e.top_logprobs) == (top or 0)
        values = [t.logprob for t in e.top_logprobs]
        assert values == sorted(values, reverse=True) and len({t.token for t in e.top_logprobs}) == len(values)
        assert sum(map(math.exp, values)) < 1.001
        if values:  # greedy
            assert (e.token, e.logprob) == (e.top_logprobs[0].token, e.top_logprobs[0].logprob)


def test_none_are_sent_unless_asked_for(client):
    assert ask(client, logprobs=False).choices[0].logprobs is None
    assert ask(client, logprobs=None).choices[0].logprobs is None


def test_they_are_the_models_own_before_temperature_and_penalties(client):
    plain = entries(ask(client, top_logprobs=3))[0]
    for more in ({"temperature": 2, "seed": 1}, {"top_p": 0.1}, {"presence_penalty": 2}):
        assert entries(ask(client, top_logprobs=3, **more))[0].top_logprobs == plain.top_logprobs
    the = str(client.post("/tokenize", body={"content": "The"}, cast_to=object)["tokens"][0])
    banned = entries(ask(client, top_logprobs=3, logit_bias={the: -100}))[0]
    assert banned.top_logprobs == plain.top_logprobs and banned.token != plain.token == "The"
    assert banned.logprob == plain.top_logprobs[1].logprob


def test_a_characters_bytes_are_whole_when_joined(client):
    messages = [{"role": "user", "content": "x"},
                {"role": "assistant", "content": "smile 😀 日本", "prefix": True}]
    answer = ask(client, messages, max_tokens=20, temperature=1.5, seed=3)
    joined = b"".join(bytes(e.bytes) for e in entries(answer))
    assert joined.decode("utf-8", "replace").startswith(answer.choices[0].message.content.rstrip("\ufffd"))


def test_calls_have_none(client):
    weather = [{"role": "user", "content": "What is the weather in Oslo?"}]
    answer = ask(client, weather, tools=[WEATHER], max_tokens=200)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert entries(answer) == []


def test_a_removed_stop_string_takes_its_tokens_along(client):
    answer = ask(client, stop=["ran"])
    assert answer.choices[0].message.content == "The capital of F"
    assert "".join(e.token for e in entries(answer)) == "The capital of F"


def test_the_stream_brings_the_same(client):
    whole = entries(ask(client, top_logprobs=2))
    streamed = [e for chunk in ask(client, top_logprobs=2, stream=True) for c in chunk.choices
                for e in (c.logprobs.content if c.logprobs else [])]
    assert streamed == whole
