"""Answers, chunks, lists and errors against OpenAI's own description of its API.

The description is looked for at $FATHOM_SHARED or ../shared; without it these tests are skipped. Our
additions to it (reasoning_content, prompt_cache_*) are allowed.
"""

import json
import urllib.error
import urllib.request

import jsonschema
import pytest

import shapes
from waiting import PATIENCE

if shapes.components() is None:
    pytest.skip(f"{shapes.SUBSET} is not there", allow_module_level=True)

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
OSLO = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "max_tokens": 120,
        "temperature": 0}
CITY_FORM = {"name": "city", "strict": True, "schema": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"],
    "additionalProperties": False}}
CHATS = [
    {"response_format": {"type": "json_schema", "json_schema": CITY_FORM}},
    {"tools": [{**WEATHER, "function": {**WEATHER["function"], "strict": True}}], "tool_choice": "required"},
    {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    {}, {"thinking": False}, {"max_tokens": 2}, {"logprobs": True, "top_logprobs": 3},
    {"tools": [WEATHER]}, {"tools": [WEATHER], "thinking": False, "logprobs": True},
    {"thinking": False, "stop": ["Oslo"]}, {"response_format": {"type": "json_object"}},
    {"service_tier": "auto", "model": "deepseek-chat"},
]
FUNCTION = {"type": "function", **WEATHER["function"]}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Changes files"}
RESPONSES = [
    {"text": {"format": {"type": "json_schema", **CITY_FORM}}},
    {"tools": [{**FUNCTION, "strict": True}], "tool_choice": {"type": "function", "name": "get_weather"}},
    {}, {"reasoning": {"effort": "none"}}, {"max_output_tokens": 2}, {"tools": [FUNCTION]},
    {"tools": [FUNCTION], "reasoning": {"effort": "none"}, "tool_choice": "required"},
    {"tools": [PATCH], "reasoning": {"effort": "none"}, "tool_choice": {"type": "custom", "name": "apply_patch"}},
    {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2},
    {"instructions": "Be brief.", "metadata": {"a": "b"}, "text": {"format": {"type": "json_object"}}},
]
COMPLETIONS = [{}, {"logprobs": 2}, {"echo": True}, {"prompt": ["a", "b"]}, {"suffix": "end"}]


@pytest.fixture(scope="module")
def check():
    components = shapes.components()

    def validate(name, answer):
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema.Draft202012Validator(schema).validate(answer)

    return validate


def chunks_of(server, path, body):
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        events = answer.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2] if not event.startswith(":")]


@pytest.mark.parametrize("more", CHATS)
def test_chat_answers(pilot, check, more):
    check("CreateChatCompletionResponse", pilot.post("/v1/chat/completions", {**OSLO, **more}))


@pytest.mark.parametrize("more", CHATS)
def test_chat_chunks(pilot, check, more):
    chunks = chunks_of(pilot, "/v1/chat/completions", {**OSLO, **more})
    for chunk in chunks:
        check("CreateChatCompletionStreamResponse", chunk)
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("more", RESPONSES)
def test_responses(pilot, check, more):
    body = {"input": "What is the weather in Oslo?", "max_output_tokens": 120, "temperature": 0, **more}
    check("Response", pilot.post("/v1/responses", body))
    data = json.dumps({**body, "stream": True}).encode()
    request = urllib.request.Request(pilot.url + "/v1/responses", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        frames = [f for f in answer.read().decode().split("\n\n") if f and not f.startswith(":")]
    for frame in frames:
        check("ResponseStreamEvent", json.loads(frame.split("\ndata: ")[1]))


@pytest.mark.parametrize("more", COMPLETIONS)
def test_completions(pilot, check, more):
    body = {"prompt": "The capital of", "max_tokens": 5, "temperature": 0, **more}
    check("CreateCompletionResponse", pilot.post("/v1/completions", body))
    for chunk in chunks_of(pilot, "/v1/completions", body):
        for choice in chunk["choices"]:  # null until the end, which the description of streams leaves out
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        if chunk["usage"] is None:
            del chunk["usage"]
        check("CreateCompletionResponse", chunk)


def test_models_and_errors(pilot, check):
    models = json.loads(pilot.get("/v1/models"))
    check("ListModelsResponse", models)
    check("Model", json.loads(pilot.get("/v1/models/" + models["data"][0]["id"])))
    for path in ("/v1/nothing", "/v1/models/nothing", "/v1/chat/completions"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            pilot.get(path)
        body = json.loads(refused.value.read())
        assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body, event", [
    ({"object": "chat.completion", "id": 1}, False),
    ({"object": "chat.completion.chunk", "choices": [{}]}, True),
    ({"type": "response.created", "sequence_number": "0"}, True),
    ({"type": "response.nonsense", "sequence_number": 0}, True),
    ({"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "text"}]}, False),
    ({"type": "content_block_delta", "index": "0", "delta": {}}, True),
    ({"error": {"message": "no", "type": "x", "param": None}}, False),
    ({"type": "error", "error": {"type": "odd", "message": "x"}}, False),
])
def test_what_has_another_shape_is_found_whatever_client_reads_it(body, event):
    text = "data: " + json.dumps(body) + "\n\n" if event else json.dumps(body)
    shapes.look("text/event-stream" if event else "application/json", text.encode())
    assert len(shapes.faults) == 1
    shapes.faults.clear()
