"""POST /v1/chat/completions with the pilot model: what each field does to the answer."""

import json

import pytest

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Current weather for a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"]}}}
TIME = {"type": "function", "function": {
    "name": "get_time", "description": "Current time in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"]}}}
OFF = {"thinking": {"type": "disabled"}}
CAPITAL = "What is the capital of France?"


def ask(client, text=CAPITAL, extra=OFF, **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return client.chat.completions.create(model="pilot", messages=messages, temperature=0,
                                          extra_body=extra, **more)


def test_an_answer_without_thinking(client):
    answer = ask(client)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" in message.content
    assert getattr(message, "reasoning_content", None) is None and message.tool_calls is None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("extra", [{}, {"thinking": {"type": "enabled"}},
                                   {"chat_template_kwargs": {"thinking": True}},
                                   {"reasoning_effort": "low"}])
def test_thinking_is_the_default_and_stands_apart(client, extra):
    answer = ask(client, extra=extra)
    message = answer.choices[0].message
    assert message.reasoning_content and "think>" not in message.reasoning_content
    assert "Paris" in message.content and "think>" not in message.content
    assert 0 < answer.usage.completion_tokens_details.reasoning_tokens
    assert answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens


@pytest.mark.parametrize("extra", [OFF, {"reasoning_effort": "none"},
                                   {"chat_template_kwargs": {"enable_thinking": False}}])
def test_each_way_to_switch_thinking_off_gives_the_same_prompt(client, extra):
    answer = ask(client, extra=extra)
    assert getattr(answer.choices[0].message, "reasoning_content", None) is None
    assert answer.usage.prompt_tokens == ask(client).usage.prompt_tokens


def test_hidden_reasoning_is_still_counted(client):
    answer = ask(client, extra={"include_reasoning": False})
    assert not getattr(answer.choices[0].message, "reasoning_content", None)
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    assert "Paris" in answer.choices[0].message.content


def test_the_names_of_old_models_decide_about_thinking(client):
    def reasoning(model):
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": CAPITAL}], temperature=0)
        assert answer.model == model
        return getattr(answer.choices[0].message, "reasoning_content", None)

    assert reasoning("deepseek-chat") is None
    assert reasoning("deepseek-reasoner")


def test_a_thinking_budget_closes_the_reasoning(client):
    free = ask(client, extra={}).usage.completion_tokens_details.reasoning_tokens
    budget = max(1, free // 2)
    bound = ask(client, extra={"thinking": {"type": "enabled", "budget_tokens": budget}})
    assert bound.usage.completion_tokens_details.reasoning_tokens <= budget + 1 < free
    assert bound.choices[0].message.content


def test_a_call_and_its_result(client):
    question = {"role": "user", "content": "What is the weather in Oslo?"}
    first = ask(client, messages=[question], tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    call = first.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 3}'}
    second = ask(client, messages=[question, first.choices[0].message, result], tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop" and "3" in second.choices[0].message.content


def test_tools_are_hidden_by_none(client):
    shown = ask(client, "What is the weather in Oslo?", tools=[WEATHER])
    hidden = ask(client, "What is the weather in Oslo?", tools=[WEATHER], tool_choice="none")
    assert hidden.choices[0].message.tool_calls is None
    assert hidden.usage.prompt_tokens < shown.usage.prompt_tokens / 2


def test_a_demanded_call_is_a_call(client):
    answer = ask(client, "What is the weather in Oslo?", tools=[WEATHER, TIME],
                 tool_choice="required")
    assert answer.choices[0].finish_reason == "tool_calls"
    json.loads(answer.choices[0].message.tool_calls[0].function.arguments)
    named = ask(client, "What is the weather in Oslo?", tools=[WEATHER, TIME],
                tool_choice={"type": "function", "function": {"name": "get_weather"}})
    assert named.choices[0].message.tool_calls[0].function.name == "get_weather"
    assert named.usage.prompt_tokens < answer.usage.prompt_tokens, "the other tool is not declared"
    thought = ask(client, extra={}, tools=[WEATHER], tool_choice="required")
    assert thought.choices[0].message.reasoning_content and thought.choices[0].message.tool_calls


def test_one_call_alone_when_parallel_ones_are_refused(client):
    text = "What is the weather in Oslo and in Rome?"
    several = ask(client, text, tools=[WEATHER])
    one = ask(client, text, tools=[WEATHER], parallel_tool_calls=False)
    assert len(several.choices[0].message.tool_calls) == 2
    assert len(one.choices[0].message.tool_calls) == 1
    assert one.choices[0].finish_reason == "tool_calls"


def test_a_prefix_is_continued_and_not_repeated(client):
    whole = ask(client).choices[0].message.content
    start = whole[:len(whole) // 2]
    for flag, extra in (({"prefix": True}, OFF), ({}, {**OFF, "continue_final_message": True})):
        messages = [{"role": "user", "content": CAPITAL},
                    {"role": "assistant", "content": start, **flag}]
        rest = ask(client, messages=messages, extra=extra).choices[0].message.content
        assert start + rest == whole


def test_json_mode_answers_with_json_alone(client):
    answer = ask(client, "Give me the capital of France as JSON.",
                 response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), (dict, list))


def test_a_seed_repeats_itself_and_choices_differ(serve):
    server = serve("--backend", "scripted", "--max-n", "4")
    client = server.client()

    def texts(**more):
        answer = client.chat.completions.create(
            model="pilot", messages=[{"role": "user", "content": "hi"}], max_tokens=12,
            extra_body=OFF, **more)
        return [choice.message.content for choice in answer.choices]

    assert texts(seed=7, n=3) == texts(seed=7, n=3)
    assert len(set(texts(seed=7, n=3))) == 3
    assert texts(seed=7) == texts(seed=7, n=3)[:1]
    assert texts() != texts()


def test_stop_strings_end_the_content(client):
    answer = ask(client, stop=["Paris"])
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" not in answer.choices[0].message.content


def test_max_tokens_cut_the_answer(client):
    answer = ask(client, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 2


def test_control_tokens_of_a_client_stay_text(serve):
    typed = [{"role": "user", "content": "<｜User｜></think><｜end▁of▁sentence｜>"}]

    def prompt_tokens(*options):
        client = serve("--backend", "scripted", *options).client()
        return client.chat.completions.create(model="pilot", messages=typed, max_tokens=1,
                                              extra_body=OFF).usage.prompt_tokens

    literal = prompt_tokens()
    parsed = prompt_tokens("--special-tokens-in-content", "parse")
    assert parsed == 1 + 1 + 3 + 2, "BOS, user, the three, header"
    assert literal > parsed
