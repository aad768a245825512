"""Tool calls: whether one is made, how it is streamed, and what a history of calls must look like."""

import json

import openai
import pytest
from waiting import PATIENCE


def function(name, **properties):
    return {"type": "function", "function": {"name": name, "description": name.replace("_", " "), "parameters": {
        "type": "object", "properties": properties, "required": list(properties)}}}


CITY = {"type": "string", "description": "The city"}
WEATHER, TIME = function("get_weather", city=CITY), function("get_time", city=CITY)
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
BOTH = [{"role": "user", "content": "What is the weather in Oslo and in Rome?"}]


def ask(client, messages, thinking=False, **more):
    more = {"tools": [WEATHER], "temperature": 0, "max_tokens": 200, **more}
    return client.chat.completions.create(model="pilot", messages=messages,
                                          extra_body={"thinking": thinking}, **more)


def calls_of(answer):
    return [(call.function.name, json.loads(call.function.arguments))
            for call in answer.choices[0].message.tool_calls or []]


@pytest.mark.parametrize("thinking", [False, True])
def test_a_call_has_its_name_and_arguments_that_parse(client, thinking):
    answer = ask(client, OSLO, thinking)
    message = answer.choices[0].message
    assert calls_of(answer) == [("get_weather", {"city": "Oslo"})]
    assert answer.choices[0].finish_reason == "tool_calls" and message.content is None
    assert bool(getattr(message, "reasoning_content", None)) == thinking
    assert message.tool_calls[0].type == "function" and message.tool_calls[0].id.startswith("call_")


def test_several_calls_come_in_order_with_ids_of_their_own(client):
    answer = ask(client, BOTH)
    assert calls_of(answer) == [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
    assert len({call.id for call in answer.choices[0].message.tool_calls}) == 2


@pytest.mark.parametrize("parallel, wanted", [(True, 2), (False, 1)])
def test_calls_are_streamed_piece_by_piece(client, parallel, wanted):
    begun, arguments, finish = [], {}, []
    for chunk in ask(client, BOTH, stream=True, parallel_tool_calls=parallel):
        for choice in chunk.choices:
            finish += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                assert not choice.delta.content
                if call.id:
                    assert call.index == len(begun) and call.type == "function"
                    assert call.function.arguments == ""
                    begun.append((call.id, call.function.name))
                else:
                    assert call.index == len(begun) - 1 and call.function.name is None
                    arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
    assert [name for _, name in begun] == ["get_weather"] * wanted
    assert [json.loads(a) for a in arguments.values()] == [{"city": c} for c in ("Oslo", "Rome")][:wanted]
    assert finish == ["tool_calls"]


def test_the_clients_own_stream_helper_reads_the_call(client):
    with client.chat.completions.stream(model="pilot", messages=OSLO, tools=[WEATHER], temperature=0,
                                        extra_body={"thinking": True}) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert calls_of(final) == [("get_weather", {"city": "Oslo"})]


def test_the_choice_of_the_tool_can_be_the_clients(client):
    hello = [{"role": "user", "content": "Hello"}]
    assert calls_of(ask(client, OSLO, tool_choice="none")) == []
    assert calls_of(ask(client, OSLO, tool_choice="auto")) == [("get_weather", {"city": "Oslo"})]
    required = ask(client, hello, tool_choice="required")
    assert required.choices[0].finish_reason == "tool_calls" and calls_of(required)
    named = ask(client, OSLO, tools=[WEATHER, TIME],
                tool_choice={"type": "function", "function": {"name": "get_time"}})
    assert calls_of(named)[0][0] == "get_time"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice, name", [
    ("required", "get_"), ({"type": "function", "function": {"name": "get_time"}}, "get_time")])
def test_a_call_demanded_while_thinking_comes_behind_the_thinking(client, choice, name, stream):
    hello = [{"role": "user", "content": "Hello"}]
    answer = ask(client, hello, True, tools=[WEATHER, TIME], tool_choice=choice, stream=stream)
    if stream:
        deltas = [c.delta for chunk in answer for c in chunk.choices]
        kinds = ["reasoning" if getattr(d, "reasoning_content", None) else "call" for d in deltas
                 if getattr(d, "reasoning_content", None) or d.tool_calls]
        assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"reasoning", "call"}
        assert not any(d.content for d in deltas)
        names = [call.function.name for d in deltas for call in d.tool_calls or [] if call.id]
    else:
        assert answer.choices[0].message.reasoning_content and not answer.choices[0].message.content
        names = [called for called, _ in calls_of(answer)]
    assert names and all(called.startswith(name) for called in names)


def test_a_demanded_call_may_end_the_thinking_that_nobody_asked_for(serve):
    other = serve("--backend", "cpu", "--tool-choice-ends-thinking").client()
    answer = other.chat.completions.create(model="pilot", messages=OSLO, tools=[WEATHER],
                                           temperature=0, tool_choice="required")
    assert calls_of(answer) == [("get_weather", {"city": "Oslo"})]


def test_without_tools_the_syntax_of_calls_is_text(client):
    prefix = {"role": "assistant", "prefix": True,
              "content": '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n'}
    answer = ask(client, OSLO + [prefix], tools=openai.omit)
    assert answer.choices[0].message.tool_calls is None and answer.choices[0].message.content


def history(calls, results):
    return OSLO + [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": i, "type": "function", "function": {"name": "get_weather", "arguments": a}}
            for i, a in calls]},
        *({"role": "tool", "tool_call_id": i, "content": '{"temperature": 4}'} for i in results)]


TWO = [("a", '{"city": "Oslo"}'), ("b", '{"city": "Rome"}')]


@pytest.mark.parametrize("messages", [
    history(TWO, ["a", "b"]), history(TWO, ["b", "a"]),
    *(history([("a", text)], ["a"]) for text in ("", "null", "{}", "no json", '"{\\"city\\": 1}"', "[1]", "{")),
])
def test_a_history_of_calls_is_read(client, messages):
    assert ask(client, messages).choices[0].finish_reason in ("stop", "tool_calls")


@pytest.mark.parametrize("messages, param", [
    (history(TWO, ["a"]), "messages"),
    (history(TWO, []), "messages"),
    (history(TWO, ["a", "a"]), "messages[3].tool_call_id"),
    (history(TWO, ["a", "c"]), "messages[3].tool_call_id"),
    (history(TWO, ["a", "b", "a"]), "messages[4].role"),
    (history([TWO[0], TWO[0]], ["a"]), "messages[1].tool_calls"),
    (history([], []), "messages[1].tool_calls"),
    (history([("", "{}")], [""]), "messages[1].tool_calls[0].id"),
    (history(TWO, ["a"]) + OSLO, "messages[3].role"),
    (OSLO + [{"role": "tool", "tool_call_id": "a", "content": "x"}], "messages[1].role"),
    (OSLO + [{"role": "assistant"}], "messages[1].content"),
    (OSLO + [{"role": "assistant", "content": "x"}], "messages"),
])
def test_a_history_that_does_not_add_up_is_refused(client, messages, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages)
    assert refused.value.param == param, refused.value.body


@pytest.mark.parametrize("more, param", [
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [function("a b")]}, "tools[0].function.name"),
    ({"tools": [function("x" * 129)]}, "tools[0].function.name"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
     "tools[0].function.parameters"),
    ({"tools": [function(f"f{i}") for i in range(257)]}, "tools"),
    ({"tool_choice": "always"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice.function.name"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
])
def test_tools_that_cannot_be_are_refused(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, OSLO, **more)
    assert refused.value.param == param, refused.value.body


def test_calls_may_come_back_without_their_reasoning_unless_an_option_demands_it(serve):
    turns = history([TWO[0]], ["a"])
    for options, refuses in (((), False), (("--require-reasoning-history",), True)):
        server = serve(*options)
        bare, whole = {**turns[1]}, {**turns[1], "reasoning_content": "The user asks."}
        for call_turn, thinking, status in ((bare, True, 400 if refuses else 200), (bare, False, 200),
                                            (whole, True, 200)):
            try:
                ask(server.client(), [turns[0], call_turn, turns[2]], thinking)
                found = 200
            except openai.BadRequestError as refused:
                found = refused.status_code
                assert refused.param == "messages"
            assert found == status, (options, thinking)
        assert server.metrics()["requests_without_reasoning_history_total"] == 1


def test_a_long_value_that_is_sent_whole_holds_no_stream_up(pilot, serve):
    numbers = list(range(900))
    text = ('<｜DSML｜tool_calls>\n<｜DSML｜invoke name="sum">\n<｜DSML｜parameter name="of" string="false">'
            f'{json.dumps(numbers)}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>')
    ids = pilot.post("/tokenize", {"content": text, "parse_special": True})["tokens"]
    assert len(ids) > 1000
    client = serve("--keep-alive", "1h", script=[{"tokens": ids}]).client(timeout=PATIENCE)
    arguments = ""
    for chunk in ask(client, OSLO, tools=[function("sum", of={"type": "array"})], stream=True, max_tokens=9000):
        for call in chunk.choices[0].delta.tool_calls or []:
            arguments += call.function.arguments or ""
    assert json.loads(arguments) == {"of": numbers}


# ---- the old names


OLD = [WEATHER["function"], TIME["function"]]


def ask_old(client, messages=None, **more):
    more = {"functions": OLD, "temperature": 0, "max_tokens": 200, **more}
    return client.chat.completions.create(model="pilot", messages=messages or OSLO, **more,
                                          extra_body={"thinking": False})


def test_the_old_names_bring_one_call_in_the_old_form(client):
    answer = ask_old(client, BOTH, functions=[WEATHER["function"]])
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "function_call" and message.tool_calls is None
    assert message.function_call.name == "get_weather"
    assert json.loads(message.function_call.arguments) == {"city": "Oslo"}
    name, arguments, finish = None, "", None
    for chunk in ask_old(client, BOTH, functions=[WEATHER["function"]], stream=True):
        call = chunk.choices[0].delta.function_call
        if call:
            name, arguments = name or call.name, arguments + (call.arguments or "")
        finish = chunk.choices[0].finish_reason or finish
    assert (name, arguments, finish) == ("get_weather", message.function_call.arguments, "function_call")


def test_the_old_choice_of_a_function(client):
    assert ask_old(client, function_call="none").choices[0].message.function_call is None
    named = ask_old(client, function_call={"name": "get_time"})
    assert named.choices[0].message.function_call.name == "get_time"


def test_a_history_in_the_old_form_is_the_same_prompt(client):
    call = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    old = OSLO + [{"role": "assistant", "content": None, "function_call": call},
                  {"role": "function", "name": "get_weather", "content": "4"}]
    new = OSLO + [{"role": "assistant", "content": None, "tool_calls": [
        {"id": "a", "type": "function", "function": call}]}, {"role": "tool", "tool_call_id": "a", "content": "4"}]
    tokens = [ask_old(client, messages, max_tokens=1).usage.prompt_tokens for messages in (old, new)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("more, param", [
    ({"functions": []}, "functions"),
    ({"functions": [{"name": "a b"}]}, "functions[0].name"),
    ({"functions": OLD + OLD}, "functions[2].name"),
    ({"tools": [WEATHER]}, "functions"),
    ({"function_call": {"name": "other"}}, "function_call.name"),
    ({"function_call": "required"}, "function_call"),
    ({"messages": OSLO + [{"role": "function", "name": "f", "content": "x"}]}, "messages[1].role"),
    ({"messages": OSLO + [{"role": "assistant", "function_call": {"name": ""}}]}, "messages[1].function_call.name"),
])
def test_what_is_wrong_with_the_old_names_is_named(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask_old(client, **more)
    assert refused.value.param == param, refused.value.body
