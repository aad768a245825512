"""Answers whose form is enforced: the clients' own parse helpers in every protocol, strict tools, demanded
calls, thinking before all of them; schemas that mean harm; and a short random soak (grammar_soak.py)."""

import enum
import json
import os
import random
import urllib.error

import anthropic
import openai
import pydantic
import pytest

from grammar_soak import one_schema, one_tools, soak
from random_schemas import HOSTILE
from waiting import PATIENCE

SOAK = int(os.environ.get("GRAMMAR_SOAK", "60"))
HELLO = [{"role": "user", "content": "Hello"}]


class Size(str, enum.Enum):
    small = "small"
    large = "large"


class Part(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    count: int = pydantic.Field(ge=1, le=9)


class Order(pydantic.BaseModel):
    size: Size
    parts: list[Part] = pydantic.Field(min_length=1, max_length=3)
    note: str | None = pydantic.Field(max_length=20)


class Find(pydantic.BaseModel):
    """Looks for something."""
    what: Size
    most: int = pydantic.Field(ge=1, le=5)


class Put(pydantic.BaseModel):
    """Puts something somewhere."""
    part: Part


@pytest.fixture
def claude(pilot):
    return anthropic.Anthropic(base_url=pilot.url, api_key="none", max_retries=0)


def hot(seed, thinking=False):
    return {"temperature": 2, "seed": seed, "extra_body": {"thinking": thinking}}


# ---- chat completions


@pytest.mark.parametrize("thinking", [False, True])
def test_chat_parse_gives_the_object(client, thinking):
    for seed in range(5):
        answer = client.chat.completions.parse(model="pilot", messages=HELLO, response_format=Order,
                                               max_tokens=2000, **hot(seed, thinking))
        message = answer.choices[0].message
        assert isinstance(message.parsed, Order) and answer.choices[0].finish_reason == "stop"
        assert bool(getattr(message, "reasoning_content", None)) == thinking


@pytest.mark.parametrize("thinking", [False, True])
def test_chat_parse_gives_the_arguments_of_strict_tools(client, thinking):
    tools = [openai.pydantic_function_tool(Find), openai.pydantic_function_tool(Put)]
    seen = set()
    for seed in range(8):
        answer = client.chat.completions.parse(model="pilot", messages=HELLO, tools=tools, tool_choice="required",
                                               max_tokens=3000, **hot(seed, thinking))
        assert answer.choices[0].finish_reason == "tool_calls"
        for call in answer.choices[0].message.tool_calls:
            assert type(call.function.parsed_arguments).__name__ == call.function.name
            seen.add(call.function.name)
    assert seen == {"Find", "Put"}


def test_a_chat_stream_is_parsed_on_its_way(client):
    with client.chat.completions.stream(model="pilot", messages=HELLO, response_format=Order, max_tokens=2000,
                                        **hot(3, True)) as stream:
        kinds = [event.type for event in stream]
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Order)
    assert "content.delta" in kinds and "content.done" in kinds


def test_with_tools_and_a_format_the_answer_is_one_of_both(client):
    kinds = set()
    for seed in range(12):
        answer = client.chat.completions.parse(model="pilot", messages=HELLO, response_format=Part,
                                               tools=[openai.pydantic_function_tool(Find)], max_tokens=3000,
                                               **hot(seed, seed % 2 == 0))
        message = answer.choices[0].message
        assert bool(message.tool_calls) != bool(message.parsed)
        kinds.add(bool(message.tool_calls))
    assert kinds == {False, True}


def test_several_choices_each_have_the_form(serve):
    client = serve("--backend", "cpu", "--max-n", "4").client()
    answer = client.chat.completions.parse(model="pilot", messages=HELLO, response_format=Part, n=4,
                                           max_tokens=500, **hot(1))
    parsed = [choice.message.parsed for choice in answer.choices]
    assert len(parsed) == 4 and all(isinstance(part, Part) for part in parsed)
    assert len({part.model_dump_json() for part in parsed}) > 1


# ---- responses


@pytest.mark.parametrize("effort", ["none", "high"])
def test_responses_parse_gives_the_object(client, effort):
    for seed in range(3):
        answer = client.responses.parse(model="pilot", input="Hello", text_format=Order, temperature=2,
                                        reasoning={"effort": effort}, max_output_tokens=2000,
                                        extra_body={"seed": seed})
        assert answer.status == "completed" and isinstance(answer.output_parsed, Order)


def test_responses_parse_gives_the_arguments_of_strict_tools(client):
    tools = [openai.pydantic_function_tool(tool)["function"] for tool in (Find, Put)]
    for effort in ("none", "high"):
        answer = client.responses.parse(
            model="pilot", input="Hello", tools=[{"type": "function", **tool} for tool in tools], temperature=2,
            tool_choice={"type": "function", "name": "Put"}, reasoning={"effort": effort}, extra_body={"seed": 5})
        calls = [item for item in answer.output if item.type == "function_call"]
        assert calls and all(call.name == "Put" for call in calls)
        for call in calls:
            Put.model_validate_json(call.arguments)


def test_a_responses_stream_is_parsed(client):
    with client.responses.stream(model="pilot", input="Hello", text_format=Part, temperature=2,
                                 extra_body={"seed": 7}) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_response().output_parsed, Part)


# ---- messages


class Box(pydantic.BaseModel):  # the client keeps bounds of numbers to itself
    size: Size
    label: Size | None
    full: bool


@pytest.mark.parametrize("thinking", [{"type": "disabled"}, {"type": "enabled", "budget_tokens": 5}])
def test_messages_parse_gives_the_object(claude, thinking):
    for seed in range(3):
        answer = claude.messages.parse(model="claude-any", messages=HELLO, max_tokens=900, output_format=Box,
                                       thinking=thinking, extra_body={"seed": seed, "temperature": 1})
        assert isinstance(answer.parsed_output, Box) and answer.stop_reason == "end_turn"
        assert (answer.content[0].type == "thinking") == (thinking["type"] == "enabled")


def test_a_messages_stream_has_the_form(claude):
    form = {"type": "json_schema", "schema": Order.model_json_schema()}
    with claude.messages.stream(model="claude-any", messages=HELLO, max_tokens=2000, output_config={"format": form},
                                thinking={"type": "disabled"}, extra_body={"temperature": 2, "seed": 2}) as stream:
        Order.model_validate_json("".join(stream.text_stream))


@pytest.mark.parametrize("thinking", [{"type": "disabled"}, {"type": "adaptive"}])
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "Put"}])
def test_strict_tools_of_messages_follow_their_schemas(claude, thinking, choice):
    tools = [{"name": tool.__name__, "strict": True, "input_schema": tool.model_json_schema()}
             for tool in (Find, Put)]
    for seed in range(3):
        answer = claude.messages.create(model="claude-any", messages=HELLO, max_tokens=3000, tools=tools,
                                        tool_choice=choice, thinking=thinking,
                                        extra_body={"seed": seed, "temperature": 2})
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert calls and answer.stop_reason == "tool_use"
        assert not any(block.type == "text" for block in answer.content)
        for call in calls:
            assert choice["type"] == "any" or call.name == "Put"
            {"Find": Find, "Put": Put}[call.name].model_validate(call.input)


# ---- beside other parameters


PART = {"type": "json_schema", "json_schema": {"name": "part", "schema": {
    "type": "object", "additionalProperties": False, "required": ["name"],
    "properties": {"name": {"type": "string", "maxLength": 12}}}}}


def ask(client, form=PART, thinking=False, messages=HELLO, **more):
    body = {"thinking": thinking, **more.pop("extra_body", {})}
    return client.chat.completions.create(model="pilot", messages=messages, response_format=form,
                                          extra_body=body, **{"temperature": 2, "seed": 1, "max_tokens": 500, **more})


@pytest.mark.parametrize("more", [{"extra_body": {"ignore_eos": True}}, {"extra_body": {"min_tokens": 300}},
                                  {"presence_penalty": 2, "frequency_penalty": 2}, {"temperature": 0},
                                  {"extra_body": {"top_k": 1}}, {"logprobs": True, "top_logprobs": 3}])
def test_other_parameters_choose_among_what_is_allowed(client, more):
    answer = ask(client, **more)
    assert set(json.loads(answer.choices[0].message.content)) == {"name"}
    assert answer.choices[0].finish_reason == "stop"


def test_a_bias_against_what_must_come_changes_nothing(pilot, client):
    ids = {i for text in ('{"', '"', "{", "}", '"}', "name", '":', '": "', ":")
           for i in pilot.post("/tokenize", {"content": text})["tokens"]}
    answer = ask(client, logit_bias={str(i): -100 for i in ids})
    assert set(json.loads(answer.choices[0].message.content)) == {"name"}


def test_a_stop_string_still_stops(client):
    content = ask(client, stop=["name"]).choices[0].message.content
    assert content.strip() == '{"' and ask(client, stop=["never there"]).choices[0].finish_reason == "stop"


def test_what_max_tokens_cuts_is_cut(client):
    answer = ask(client, {"type": "json_object"}, max_tokens=3)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3


def test_an_answer_goes_on_from_what_was_begun(client):
    begun = {"role": "assistant", "content": '{"name": "Or', "prefix": True}
    for seed in range(4):
        content = ask(client, messages=HELLO + [begun], seed=seed).choices[0].message.content
        assert json.loads(begun["content"] + content)["name"].startswith("Or")
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages=HELLO + [{**begun, "content": "Here:"}])
    assert refused.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("budget", [1, 4])
def test_a_thinking_budget_closes_the_thinking_before_the_form(client, budget, stream):
    thinking = {"type": "enabled", "budget_tokens": budget}
    answer = ask(client, thinking=thinking, stream=stream)
    if stream:
        deltas = [c.delta for chunk in answer for c in chunk.choices]
        kinds = ["thought" if getattr(d, "reasoning_content", None) else "content" for d in deltas
                 if d.content or getattr(d, "reasoning_content", None)]
        assert kinds == sorted(kinds, reverse=True) and "content" in kinds
        content = "".join(d.content or "" for d in deltas)
    else:
        content = answer.choices[0].message.content
        assert answer.usage.completion_tokens_details.reasoning_tokens <= budget + 1
    assert set(json.loads(content)) == {"name"}


def test_a_thinking_budget_and_calls_go_together(client):
    tools = [openai.pydantic_function_tool(Find)]
    for seed in range(12):  # some of them begin their call within the thinking
        answer = client.chat.completions.create(
            model="pilot", messages=[{"role": "user", "content": "What is the weather in Oslo?"}], tools=tools,
            temperature=2, seed=seed, max_tokens=3000,
            extra_body={"thinking": {"type": "enabled", "budget_tokens": 1 + seed}})
        message = answer.choices[0].message
        assert answer.usage.completion_tokens_details.reasoning_tokens <= seed + 2
        assert "DSML" not in (message.content or "") + (message.reasoning_content or "")
        for call in message.tool_calls or []:
            Find.model_validate_json(call.function.arguments)


# ---- what is refused


def refusal(server, schema, **more):
    body = {"messages": HELLO, "thinking": False, "max_tokens": 400, "temperature": 0, **more,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    try:
        return server.post("/v1/chat/completions", body, timeout=PATIENCE)
    except urllib.error.HTTPError as refused:
        assert refused.code == 400
        return json.loads(refused.read())


ONE_OF = {"oneOf": [{"oneOf": [{"oneOf": [{"type": "null"}]}]}]}
MEANT = {**HOSTILE,
         "nested oneOf": lambda: ONE_OF,
         "maxItems 2^63": lambda: {"type": "array", "maxItems": 2**63 - 1},
         "own anyOf": lambda: {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
         "quantifiers": lambda: {"type": "string", "pattern": "()*+?" * 400},
         "256 KB": lambda: {"type": "object", "description": "x" * (300 << 10)},
         "values": lambda: {"anyOf": [{"const": i} for i in range(9000)]}}


@pytest.mark.parametrize("name", MEANT)
def test_a_schema_that_means_harm_is_refused_at_once_or_bounded(pilot, name):
    def seconds():
        return pilot.metrics()["grammar_compile_seconds_sum"]

    before = seconds()
    answer = refusal(pilot, MEANT[name](), max_tokens=1)
    assert seconds() - before < 1  # of its thread's own time
    if "error" in answer:
        assert answer["error"]["type"] == "invalid_request_error"
        assert (answer["error"]["param"] or "messages").startswith(("response_format", "messages"))
    assert pilot.get("/health")


@pytest.mark.parametrize("schema, pointer", [
    (ONE_OF, ""),
    ({"type": "object", "properties": {"a": {"not": {}}}}, "/properties/a"),
    ({"type": "object", "properties": {"a/b~": {"uniqueItems": True, "type": "array"}}}, "/properties/a~1b~0"),
    ({"type": "array", "items": {"type": "string", "pattern": "(?=a)"}}, "/items"),
    ({"$ref": "#/$defs/nowhere"}, ""),
    ({"type": "string", "format": "iri"}, ""),
])
@pytest.mark.parametrize("strict", [False, True])
def test_what_cannot_be_enforced_is_named_by_its_pointer(pilot, schema, pointer, strict):
    field = "response_format.json_schema.schema"
    error = refusal(pilot, schema, strict=strict)["error"]
    assert (error["param"], error["code"]) == (field, "unsupported_value"), error
    assert error["message"].startswith(f"{field} at {pointer}:" if pointer else f"{field}"), error


def test_what_was_compiled_is_found_again(serve):
    server = serve("--backend", "cpu")
    client = server.client()
    assert server.metrics()["grammars"] == 0
    for schema in (PART, {"type": "json_object"}, PART, PART):
        ask(client, schema, max_tokens=1)
    metrics = server.metrics()
    assert metrics['grammars_total{result="compiled"}'] == 2 and metrics['grammars_total{result="found"}'] == 2
    assert metrics["grammars"] == 2
    held = sum(metrics[f'grammar_bytes{{state="{state}"}}'] for state in ("in_use", "idle"))
    assert 0 < held < 2**20


def large(last):
    """A schema whose grammar takes some 0.7 MB, for an answer without an end in sight."""
    pattern = "^(ab?){1000}(cd?){1000}(ab?){1000}(cd?){1000}" + last + "$"
    return {"type": "array", "minItems": 1000, "items": {"type": "string", "pattern": pattern}}


def ask_large(client, last, **more):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": large(last)}}
    return client.chat.completions.create(model="pilot", messages=HELLO, response_format=form,
                                          extra_body={"thinking": False}, **more)


def test_memory_for_grammars_is_bounded_and_the_idle_ones_make_room(serve):
    server = serve("--backend", "cpu", "--grammar-memory", "1MiB")
    client = server.client().with_options(max_retries=8)  # an answer is there a moment before its grammar is idle
    for last in "xyz":
        assert ask_large(client, last, max_tokens=1).choices
    metrics = server.metrics()
    assert metrics["grammars"] == 1 and metrics["grammars_evicted_total"] == 2
    assert metrics['grammar_bytes{state="idle"}'] <= 2**20


def test_where_those_in_use_take_all_the_memory_others_are_asked_to_come_again(serve):
    server = serve("--backend", "cpu", "--grammar-memory", "1MiB", "--stall-timeout", "5m")
    client = server.client().with_options(max_retries=0)
    with ask_large(client, "x", stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.InternalServerError) as refused:
            ask_large(client, "y", max_tokens=1)
        assert refused.value.status_code == 503 and int(refused.value.response.headers["retry-after"]) >= 1
        assert "under way" in refused.value.message
        assert ask_large(client, "x", max_tokens=1).choices, "the same shares it"
        metrics = server.metrics()
        assert metrics['grammars_total{result="full"}'] == 1 and metrics['grammar_bytes{state="in_use"}'] > 2**19
    assert ask_large(client.with_options(max_retries=8), "y", max_tokens=1).choices


def test_an_operator_may_allow_less_time_to_compile(serve):
    server = serve("--grammar-time", "1ms")
    heavy = {"type": "string", "pattern": "(a|b)*a(a|b){12}"}
    assert "too much time to compile" in refusal(server, heavy)["error"]["message"]
    assert "choices" in refusal(server, {"type": "null"})


# ---- at random


@pytest.mark.parametrize("task, outcome, share", [(one_schema, "json", 0.8), (one_tools, "calls", 0.2)])
def test_random_schemas_and_tools_hold_at_temperature_2(serve, task, outcome, share):
    server = serve("--backend", "cpu", "--max-n", "4")
    counts, wrong = soak(task, server.url, SOAK, seed=random.randrange(1 << 30), choices=4)
    assert not wrong and counts[outcome] >= SOAK * share, (counts, wrong[:3])
