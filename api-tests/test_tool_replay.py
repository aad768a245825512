"""A tool call that comes back by its id is rendered exactly as it was sampled."""

import json

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Get the weather for a city",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city"}}, "required": ["city"]}}}
QUESTION = {"role": "user", "content": "What is the weather in Oslo?"}
COMMON = {"model": "pilot", "tools": [WEATHER], "temperature": 0, "max_tokens": 200,
          "extra_body": {"thinking": {"type": "disabled"}}}


def second_turn(client, call_id, arguments):
    """Tokens of the prompt that carries the call back with these arguments."""
    messages = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": call_id, "type": "function",
             "function": {"name": "get_weather", "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": call_id, "content": '{"temperature": 4}'},
    ]
    answer = client.chat.completions.create(messages=messages, **COMMON)
    assert answer.choices[0].finish_reason == "stop"
    return answer.usage.prompt_tokens


def sampled_call(client, **fields):
    more = {**COMMON, "extra_body": {**COMMON["extra_body"], **fields}}
    answer = client.chat.completions.create(messages=[QUESTION], **more)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    return call


def test_known_id_brings_the_sampled_text_back(pilot, client):
    call = sampled_call(client)
    before = pilot.metrics()['tool_memory_lookups_total{result="found"}']
    exact = second_turn(client, call.id, call.function.arguments)
    assert second_turn(client, call.id, '{ "\\u0063ity" :\n"Oslo"}') == exact
    assert pilot.metrics()['tool_memory_lookups_total{result="found"}'] == before + 2


def test_call_that_the_client_changed_is_written_as_it_is_now(client):
    call = sampled_call(client)
    exact = second_turn(client, call.id, call.function.arguments)
    other = json.dumps({"city": "Oslo", "comment": "a long remark that was never sampled " * 3})
    longer = second_turn(client, call.id, other)
    assert longer > exact
    assert longer == second_turn(client, "call_" + "0" * 32, other)


def test_what_is_not_to_be_stored_is_written_anew(client):
    call = sampled_call(client, no_store=True)
    exact = second_turn(client, call.id, call.function.arguments)
    other = json.dumps({"city": "Oslo", "comment": "a long remark that was never sampled " * 3})
    assert second_turn(client, call.id, other) > exact


def test_ids_are_never_the_same(client):
    ids = {sampled_call(client).id for _ in range(5)}
    assert len(ids) == 5
    assert all(len(i) == len("call_") + 32 for i in ids)
