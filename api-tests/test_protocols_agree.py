"""One conversation, told in the words of three protocols, is one prompt."""

import json

import pytest

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "get weather", "parameters": CITY}


def user(text):
    return {"role": "user", "content": text}


# (chat, messages, responses): what each adds to its body
CONVERSATIONS = {
    "a question": (
        {"messages": [user("Hello")]}, {"messages": [user("Hello")]}, {"input": "Hello"}),
    "without thinking": (
        {"messages": [user("Hello")], "thinking": False},
        {"messages": [user("Hello")], "thinking": {"type": "disabled"}},
        {"input": "Hello", "reasoning": {"effort": "none"}}),
    "another effort": (
        {"messages": [user("Hello")], "reasoning_effort": "low"},
        {"messages": [user("Hello")], "output_config": {"effort": "low"}},
        {"input": "Hello", "reasoning": {"effort": "low"}}),
    "a system message": (
        {"messages": [{"role": "system", "content": "Be brief."}, user("Hello")]},
        {"system": "Be brief.", "messages": [user("Hello")]},
        {"instructions": "Be brief.", "input": "Hello"}),
    "several turns": (
        {"messages": [user("Hello"), {"role": "assistant", "content": "Hi", "reasoning_content": "Greet."},
                      user("Bye")]},
        {"messages": [user("Hello"), {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Greet.", "signature": "s"}, {"type": "text", "text": "Hi"}]},
                      user("Bye")]},
        {"input": [user("Hello"), {"type": "reasoning", "summary": [], "content": [
            {"type": "reasoning_text", "text": "Greet."}]}, {"role": "assistant", "content": "Hi"}, user("Bye")]}),
    "parts and blocks": (
        {"messages": [user([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}])]},
        {"messages": [user([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}])]},
        {"input": [user([{"type": "input_text", "text": "One."}, {"type": "input_text", "text": "Two."}])]}),
    "tools": (
        {"messages": [user("Hello")], "tools": [{"type": "function", "function": FUNCTION}]},
        {"messages": [user("Hello")], "tools": [
            {"name": "get_weather", "description": "get weather", "input_schema": CITY}]},
        {"input": "Hello", "tools": [{"type": "function", **FUNCTION}]}),
    "tools that may not be called": (
        {"messages": [user("Hello")], "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "none"},
        {"messages": [user("Hello")], "tools": [{"name": "get_weather", "input_schema": CITY}],
         "tool_choice": {"type": "none"}},
        {"input": "Hello", "tools": [{"type": "function", **FUNCTION}], "tool_choice": "none"}),
    "calls and their results": (
        {"messages": [user("Oslo and Rome?"), {
            "role": "assistant", "content": "Both.", "reasoning_content": "Two calls.", "tool_calls": [
                {"id": i, "type": "function", "function": {"name": "get_weather",
                                                           "arguments": json.dumps({"city": c})}}
                for i, c in (("a", "Oslo"), ("b", "Rome"))]},
            {"role": "tool", "tool_call_id": "a", "content": "4"}, {"role": "tool", "tool_call_id": "b", "content": "9"},
            user("Thanks")], "tools": [{"type": "function", "function": FUNCTION}]},
        {"messages": [user("Oslo and Rome?"), {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Two calls.", "signature": "s"}, {"type": "text", "text": "Both."},
            {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "b", "name": "get_weather", "input": {"city": "Rome"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "4"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "9"}]},
                {"type": "text", "text": "Thanks"}]}],
         "tools": [{"name": "get_weather", "description": "get weather", "input_schema": CITY}]},
        {"input": [user("Oslo and Rome?"), {"type": "reasoning", "summary": [], "content": [
            {"type": "reasoning_text", "text": "Two calls."}]}, {"role": "assistant", "content": "Both."},
            {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
            {"type": "function_call", "call_id": "b", "name": "get_weather", "arguments": '{"city": "Rome"}'},
            {"type": "function_call_output", "call_id": "a", "output": "4"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "9"}]},
            user("Thanks")], "tools": [{"type": "function", **FUNCTION}]}),
}


@pytest.mark.parametrize("policy", ["reference", "service"])
def test_three_protocols_are_one_prompt(serve, policy):
    server = serve("--policy", policy, script=[{"generate": 1}])
    for name, (chat, messages, responses) in CONVERSATIONS.items():
        counts = [server.post("/tokenize", chat)["count"],
                  server.post("/v1/messages/count_tokens", messages)["input_tokens"],
                  server.post("/v1/responses/input_tokens", responses)["input_tokens"]]
        assert counts[0] == counts[1] == counts[2], (name, counts)


def test_what_one_protocol_computed_another_finds_again(pilot):
    """The prefix cache knows prompts, not protocols."""
    story = "Once upon a time there was a fathom line. " * 60
    chat = pilot.post("/v1/chat/completions", {"messages": [user(story)], "max_tokens": 1})
    prompt = chat["usage"]["prompt_tokens"]
    messages = pilot.post("/v1/messages", {"messages": [user(story)], "max_tokens": 1})["usage"]
    responses = pilot.post("/v1/responses", {"input": story, "max_output_tokens": 1})["usage"]
    assert messages["input_tokens"] + messages["cache_read_input_tokens"] == prompt
    assert responses["input_tokens"] == prompt
    assert messages["cache_read_input_tokens"] > 0 and responses["input_tokens_details"]["cached_tokens"] > 0
