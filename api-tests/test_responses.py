"""POST /v1/responses, by OpenAI's own client."""

import json
import os
import random
import urllib.request

import openai
import pytest
from waiting import PATIENCE

PAIRS = int(os.environ.get("STREAM_PAIRS", "60")) // 2
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "The city"}},
        "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "description": "get weather", "parameters": CITY}
TIME = {**WEATHER, "name": "get_time", "description": "get time"}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Changes files",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: LINE+"}}
OSLO, BOTH = "What is the weather in Oslo?", "What is the weather in Oslo and in Rome?"
NONE = {"effort": "none"}


def ask(client, said="Hello", /, **more):
    return client.responses.create(input=said, **{"model": "pilot", "temperature": 0, **more})


def kinds(response):
    return [item.type for item in response.output]


def calls_of(response):
    return [(i.name, json.loads(i.arguments)) for i in response.output if i.type == "function_call"]


def as_input(response, drop=()):
    """The output as a client sends it back."""
    return [item.model_dump(exclude_none=True, exclude={"parsed_arguments", *drop})
            for item in response.output]


def call(ident, city="Oslo", **more):
    return {"type": "function_call", "call_id": ident, "name": "get_weather",
            "arguments": json.dumps({"city": city}), **more}


def output(ident, text='{"temperature": 4}'):
    return {"type": "function_call_output", "call_id": ident, "output": text}


def user(text=OSLO):
    return {"role": "user", "content": text}


# ---- answers


def test_an_answer_is_reasoning_and_a_message(client):
    response = ask(client)
    assert response.id.startswith("resp_") and response.status == "completed" and not response.error
    assert kinds(response) == ["reasoning", "message"] and response.output_text
    reasoning, message = response.output
    assert reasoning.content[0].text and reasoning.summary == [] and reasoning.encrypted_content is None
    assert message.content[0].text == response.output_text and message.role == "assistant"
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens
    assert response.store is False and response.previous_response_id is None


def test_effort_none_does_not_think(client):
    response = ask(client, reasoning=NONE)
    assert kinds(response) == ["message"] and response.reasoning.effort == "none"
    for effort in ("minimal", "low", "medium", "high", "xhigh"):
        assert kinds(ask(client, reasoning={"effort": effort, "summary": "auto"}))[0] == "reasoning"


def test_the_answer_repeats_what_was_asked_for(client):
    asked = {"instructions": "Be brief.", "max_output_tokens": 50, "metadata": {"a": "b"},
             "tools": [WEATHER], "tool_choice": "none", "parallel_tool_calls": False, "top_p": 0.5,
             "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"}}
    response = ask(client, **asked).model_dump()
    for key in ("instructions", "max_output_tokens", "metadata", "tool_choice", "parallel_tool_calls",
                "top_p"):
        assert response[key] == asked[key], key
    assert response["temperature"] == 0 and response["reasoning"]["effort"] == "low"
    assert response["tools"][0]["name"] == "get_weather" and response["text"]["format"]["type"] == "text"


def test_a_limit_makes_the_response_incomplete(client):
    response = ask(client, max_output_tokens=16, reasoning=NONE)
    assert response.status == "incomplete" and response.output[-1].status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 16


def test_input_is_text_or_items_that_say_the_same(client):
    same = [OSLO, [user()], [{"type": "message", **user()}],
            [user([{"type": "input_text", "text": OSLO}])]]
    tokens = {ask(client, text, max_output_tokens=1).usage.input_tokens for text in same}
    assert len(tokens) == 1
    inside = ask(client, [{"role": "system", "content": "Be brief."}, user()], max_output_tokens=1)
    before = ask(client, [user()], instructions="Be brief.", max_output_tokens=1)
    assert inside.usage.input_tokens == before.usage.input_tokens


def test_log_probabilities_are_those_of_the_message(client):
    response = ask(client, include=["message.output_text.logprobs"], top_logprobs=2)
    text = response.output[-1].content[0]
    assert "".join(entry.token for entry in text.logprobs) == text.text
    assert all(len(entry.top_logprobs) == 2 for entry in text.logprobs)


def test_json_is_the_text(client):
    response = ask(client, [user("Answer in JSON: the capital of France")],
                   text={"format": {"type": "json_object"}}, reasoning=NONE)
    json.loads(response.output_text)


# ---- tools


@pytest.mark.parametrize("reasoning", [NONE, {"effort": "high"}])
def test_a_call_is_an_item_of_its_own(client, reasoning):
    response = ask(client, OSLO, tools=[WEATHER], reasoning=reasoning)
    item = response.output[-1]
    assert calls_of(response) == [("get_weather", {"city": "Oslo"})]
    assert item.id.startswith("fc_") and item.call_id.startswith("call_") and item.status == "completed"


def test_calls_in_parallel_or_only_one(client):
    both = ask(client, BOTH, tools=[WEATHER], reasoning=NONE)
    assert [arguments["city"] for _, arguments in calls_of(both)] == ["Oslo", "Rome"]
    assert len(calls_of(ask(client, BOTH, tools=[WEATHER], reasoning=NONE,
                            parallel_tool_calls=False))) == 1


def test_the_choice_of_the_tool_can_be_the_clients(client):
    assert calls_of(ask(client, OSLO, tools=[WEATHER], tool_choice="none")) == []
    assert calls_of(ask(client, tools=[WEATHER], tool_choice="required", reasoning=NONE))
    named = ask(client, OSLO, tools=[WEATHER, TIME], reasoning=NONE,
                tool_choice={"type": "function", "name": "get_time"})
    assert calls_of(named)[0][0] == "get_time"


def test_tools_in_a_namespace_are_declared_and_come_back_in_it(client):
    """That answers name the namespace is a unit test: the pilot does not know such names."""
    tools = [{"type": "namespace", "name": "weather", "description": "Weather", "tools": [WEATHER]}]
    flat = [{**WEATHER, "name": "weather__get_weather"}]  # as many characters
    history = [user(), call("a", namespace="weather"), output("a")]
    near = [user(), call("a", name="weather__get_weather"), output("a")]
    spaced, plain = ask(client, history, tools=tools), ask(client, near, tools=flat)
    assert spaced.status == plain.status == "completed"
    assert abs(spaced.usage.input_tokens - plain.usage.input_tokens) <= 6
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, tools=tools, tool_choice={"type": "function", "name": "get_weather"})
    assert refused.value.param == "tool_choice.name"


def test_a_custom_tool_takes_a_text(client):
    response = ask(client, "Hello", tools=[PATCH], reasoning=NONE,
                   tool_choice={"type": "custom", "name": "apply_patch"})
    item = response.output[-1]
    assert (item.type, item.name) == ("custom_tool_call", "apply_patch")
    assert item.id.startswith("ctc_") and isinstance(item.input, str)
    with client.responses.stream(model="pilot", input="Hello", tools=[PATCH], reasoning=NONE,
                                 tool_choice={"type": "custom", "name": "apply_patch"},
                                 temperature=0) as stream:
        events = [event.type for event in stream]
    assert "response.custom_tool_call_input.done" in events
    again = ask(client, [user("Hello")] + as_input(response) + [
        {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "Done"}], tools=[PATCH])
    assert again.output


def test_tools_that_hosted_services_run_are_dropped_or_refused_by_option(client, serve):
    tools = [{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}]
    bare, more = ask(client, reasoning=NONE), ask(client, reasoning=NONE, tools=tools)
    assert bare.usage.input_tokens == more.usage.input_tokens
    for choice in ("required", {"type": "web_search"}):
        assert ask(client, tools=tools, tool_choice=choice, max_output_tokens=16).output
    with pytest.raises(openai.BadRequestError) as refused:
        ask(serve("--server-tools", "refuse").client(), tools=tools)
    assert refused.value.param == "tools[0].type"


@pytest.mark.parametrize("drop", [(), ("content",), ("content", "encrypted_content")])
def test_a_conversation_goes_on_with_its_own_items(client, drop):
    """Clients that do not send reasoning back in clear send the sealed copy."""
    first = ask(client, OSLO, tools=[WEATHER], include=["reasoning.encrypted_content"])
    items = as_input(first)
    for item in items:
        if item["type"] == "reasoning":
            item.update({key: None for key in drop})
    history = [user()] + items + [output(first.output[-1].call_id)]
    again = ask(client, history, tools=[WEATHER])
    assert again.output_text
    whole = ask(client, [user()] + as_input(first) + [output(first.output[-1].call_id)], tools=[WEATHER])
    lost = again.usage.input_tokens < whole.usage.input_tokens
    assert lost == (len(drop) == 2), (again.usage, whole.usage)


def test_outputs_may_stand_behind_other_items_and_in_any_order(client):
    history = [user(BOTH), call("a"), call("b", "Rome"), output("b"), user("Thanks"), output("a")]
    near = [user(BOTH), call("a"), call("b", "Rome"), output("a"), output("b"), user("Thanks")]
    tokens = [ask(client, items, tools=[WEATHER], max_output_tokens=1).usage.input_tokens
              for items in (history, near)]
    assert tokens[0] == tokens[1]


# ---- streams


def test_the_clients_stream_helper_ends_with_the_same_response(client):
    more = {"model": "pilot", "input": BOTH, "tools": [WEATHER], "temperature": 0}
    whole = client.responses.create(**more)
    with client.responses.stream(**more) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert kinds(final) == kinds(whole) and calls_of(final) == calls_of(whole)
    texts = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
    assert texts == whole.output[0].content[0].text


def post(server, body):
    request = urllib.request.Request(server.url + "/v1/responses", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def events_of(text):
    for frame in text.split("\n\n"):
        if frame and not frame.startswith(":"):
            name, data = frame.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert name == "event: " + event["type"]
            yield event


def join(text):
    """The response of a stream, out of its deltas; checks that the last event says the same."""
    items, response = [], None
    for number, event in enumerate(events_of(text)):
        assert event["sequence_number"] == number and response is None
        kind = event["type"].removeprefix("response.")
        if kind in ("completed", "incomplete"):
            response = event["response"]
            assert response["status"] == kind
        elif kind == "output_item.added":
            assert event["output_index"] == len(items)
            items.append([event["item"], "", []])
        elif kind.endswith(".delta"):
            assert event["item_id"] == items[-1][0]["id"] and event["delta"]
            items[-1][1] += event["delta"]
            items[-1][2] += event.get("logprobs", [])
        elif kind == "output_item.done":
            assert said(event["item"]) == tuple(items[-1][1:])
            items[-1] = event["item"]
    assert response["output"] == items
    return response


def said(item):
    if item["type"] == "function_call":
        return item["arguments"], []
    if item["type"] == "custom_tool_call":
        return item["input"], []
    part = item["content"][0]
    return part["text"], part.get("logprobs", [])


def comparable(response):
    """Without what differs by its nature: ids, and the seconds."""
    response = {key: value for key, value in response.items()
                if key not in ("id", "created_at", "completed_at")}
    response["output"] = [{key: value for key, value in item.items() if key not in ("id", "call_id")}
                          for item in response["output"]]
    response["usage"]["input_tokens_details"] = None
    return response


def random_body(dice):
    body = {"input": dice.choice(["Hello", OSLO, BOTH]), "seed": dice.randrange(1 << 40),
            "temperature": dice.choice([0, 0.5, 1, 1.5]), "max_output_tokens": dice.randint(1, 90),
            "reasoning": {"effort": dice.choice(["none", "high"])}}
    if dice.random() < 0.6:
        body["tools"] = [WEATHER, PATCH]
        if body["reasoning"] == NONE and dice.random() < 0.4:
            body["tool_choice"] = dice.choice(["required", {"type": "custom", "name": "apply_patch"}])
    if dice.random() < 0.3:
        body.update(include=["message.output_text.logprobs", "reasoning.encrypted_content"],
                    top_logprobs=dice.randint(0, 3))
    if dice.random() < 0.1:
        body["text"] = {"format": {"type": "json_object"}}
    return body


def test_streams_of_random_requests_equal_their_answers(pilot):
    dice, seen = random.Random(20261001), set()
    for _ in range(PAIRS):
        body = random_body(dice)
        whole = json.loads(post(pilot, body))
        assert comparable(join(post(pilot, {**body, "stream": True}))) == comparable(whole), body
        seen |= {whole["status"]} | {item["type"] for item in whole["output"]}
    assert seen == {"completed", "incomplete", "reasoning", "message", "function_call",
                    "custom_tool_call"}


def test_an_engine_that_fails_ends_the_stream_with_a_failed_response(serve):
    client = serve(script=[{"prompt_has": [], "tokens": [35] * 5, "finish": "failed"}]).client()
    with pytest.raises(openai.APIStatusError) as failed:
        ask(client)
    assert failed.value.status_code == 503
    last = list(ask(client, stream=True))[-1]
    assert last.type == "response.failed" and last.response.error.code == "server_error"
    assert last.response.status == "failed"


def test_what_the_cache_had_is_told(serve):
    client = serve(script=[{"cached": 4, "generate": 3}]).client()
    usage = ask(client, OSLO).usage
    assert usage.input_tokens_details.cached_tokens == 4 < usage.input_tokens


# ---- refusals


@pytest.mark.parametrize("more, param", [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"background": True}, "background"),
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": 3}, "input"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [user([{"type": "input_image", "image_url": "x"}])]}, "input[0].content[0].type"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
    ({"input": [{"type": "mcp_call"}]}, "input[0].type"),
    ({"input": [user(), {"role": "assistant", "content": "x"}]}, "input"),
    ({"input": [user(), call("a")]}, "input[1].call_id"),
    ({"input": [user(), output("a")]}, "input[1].call_id"),
    ({"input": [user(), output("a"), call("a")]}, "input[1].call_id"),
    ({"input": [user(), call("a"), call("a"), output("a")]}, "input[2].call_id"),
    ({"input": [user(), call("a"), output("a"), output("a")]}, "input[3].call_id"),
    ({"input": [user(), call(""), output("")]}, "input[1].call_id"),
    ({"input": [user(), {"type": "function_call", "call_id": "a"}, output("a")]}, "input[1].name"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 1 << 30}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"not": {}}, "strict": True}}},
     "text.format.schema"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
    ({"tools": [{"type": "namespace", "name": "n", "tools": [WEATHER, {"type": "mcp"}]}]},
     "tools[0].tools[1].type"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice.name"),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
     "tool_choice.type"),
    ({"include": [3]}, "include"),
    ({"n": 2}, "n"),
    ({"model": "gpt-5"}, "model"),
])
def test_a_wrong_field_is_named(scripted_client, more, param):
    body = {"model": "pilot", "input": "Hello", "max_output_tokens": 8, "reasoning": NONE, **more}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
        scripted_client.post("/responses", body=body, cast_to=object)
    assert refused.value.param == param, refused.value.body
    assert refused.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("more", [
    {"store": True}, {"truncation": "auto"}, {"service_tier": "flex"}, {"prompt_cache_key": "k"},
    {"client_metadata": {"a": "b"}}, {"stream_options": {"include_obfuscation": False}},
    {"include": ["file_search_call.results"]}, {"max_tool_calls": 3}, {"text": {"verbosity": "low"}},
    {"input": [user(), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, user()]},
    {"input": [user(), {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo"}, user()]},
    {"instructions": "Say hello.", "input": None},
])
def test_what_has_no_effect_here_does_no_harm(scripted_client, more):
    body = {"model": "pilot", "input": "Hello", "max_output_tokens": 8, **more}
    answer = scripted_client.post("/responses", body=body, cast_to=object)
    assert answer["status"] in ("completed", "incomplete") and answer["store"] is False
