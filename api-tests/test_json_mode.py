"""response_format: answers that are JSON and nothing else."""

import json

import openai
import pytest

ASK = [{"role": "user", "content": "Give me JSON with the capital of France"}]
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"]}


def ask(client, form, messages=ASK, thinking=False, **more):
    return client.chat.completions.create(model="pilot", messages=messages, temperature=0,
                                          response_format=form, extra_body={"thinking": thinking}, **more)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("form", [{"type": "json_object"}, {
    "type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}])
def test_the_content_is_one_json_value(client, form, thinking):
    answer = ask(client, form, thinking=thinking)
    assert isinstance(json.loads(answer.choices[0].message.content), dict)
    assert answer.choices[0].finish_reason == "stop"
    streamed = "".join(choice.delta.content or "" for chunk in
                       ask(client, form, thinking=thinking, stream=True) for choice in chunk.choices)
    assert streamed == answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_fences_and_words_around_the_json_are_dropped(pilot, serve, stream):
    text = "Here it is:\n```json\n{\"a\": [1, \"}\"]}\n```\nDone."
    ids = pilot.post("/tokenize", {"content": text})["tokens"]
    answer = ask(serve(script=[{"tokens": ids}]).client(), {"type": "json_object"}, stream=stream)
    said = ("".join(c.delta.content or "" for chunk in answer for c in chunk.choices) if stream
            else answer.choices[0].message.content)
    assert said == '{"a": [1, "}"]}'


def test_text_is_the_default(client):
    plain = client.chat.completions.create(model="pilot", messages=ASK, temperature=0,
                                           extra_body={"thinking": False})
    assert ask(client, {"type": "text"}).usage.prompt_tokens == plain.usage.prompt_tokens
    assert ask(client, {"type": "json_object"}).usage.prompt_tokens > plain.usage.prompt_tokens


def test_the_hosted_services_rule_is_an_option(client, serve):
    wordless = [{"role": "user", "content": "Hello"}]
    ask(client, {"type": "json_object"}, wordless, max_tokens=1)
    strict = serve("--strict-json-word").client()
    ask(strict, {"type": "json_object"}, max_tokens=1)
    with pytest.raises(openai.BadRequestError) as refused:
        ask(strict, {"type": "json_object"}, wordless)
    assert refused.value.body["message"] == ("response_format: found json_object, wanted the word json in "
                                             "the messages")


@pytest.mark.parametrize("form, param, code", [
    ("json", "response_format", "invalid_request_error"),
    ({}, "response_format.type", "invalid_request_error"),
    ({"type": "xml"}, "response_format.type", "invalid_request_error"),
    ({"type": "json_schema"}, "response_format.json_schema", "invalid_request_error"),
    ({"type": "json_schema", "json_schema": {"name": "a"}}, "response_format.json_schema.schema",
     "invalid_request_error"),
    ({"type": "json_schema", "json_schema": {"name": "a", "schema": PERSON, "strict": 1}},
     "response_format.json_schema.strict", "invalid_request_error"),
    ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": PERSON}}},
     "response_format.json_schema.schema", "unsupported_value"),
])
def test_a_form_that_cannot_be_is_refused(client, form, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, form)
    assert (refused.value.param, refused.value.code) == (param, code), refused.value.body
