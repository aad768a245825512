"""Requests of the shapes that coding agents send, turn by turn: what they need is there, and what they
say beside it does no harm."""

import json
import urllib.request

import pytest
from waiting import PATIENCE

SHELL = {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}},
         "required": ["command"], "additionalProperties": False}
TASK = "What is the weather in Oslo?"
DECLARED = ("get_weather", "Bash", "shell", "apply_patch")


def post(server, path, body, headers):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        frames = answer.read().decode().split("\n\n")
    return [json.loads(frame.split("data: ", 1)[1]) for frame in frames
            if frame and not frame.startswith(":")]


def claude_code(messages):
    """Claude Code: blocks with cache marks, a line of its build, metadata, context management."""
    mark = {"cache_control": {"type": "ephemeral"}}
    return {
        "model": "claude-sonnet-4-6", "max_tokens": 300, "stream": True, "temperature": 0,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.9; cch=1a2b3;"},
            {"type": "text", "text": "You are an agent.", **mark}, {"type": "text", "text": "Be brief.", **mark}],
        "tools": [
            {"name": "get_weather", "description": "get weather", "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
                "properties": {"city": {"type": "string", "description": "The city"}}, "required": ["city"],
                "additionalProperties": False}},
            {"name": "Bash", "description": "Runs a command", "input_schema": SHELL, **mark}],
        "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "s"})},
        "thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "messages": messages,
    }


def test_a_claude_code_session_calls_a_tool_and_reads_its_result(pilot):
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,effort-2025-11-24",
               "Authorization": "Bearer x", "x-app": "cli"}
    remind = {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"}
    ask = {"type": "text", "text": TASK, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [remind, ask]}]
    for turn in range(2):
        events = post(pilot, "/v1/messages?beta=true", claude_code(messages), headers)
        assert events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
        blocks = []
        for event in events:
            if event["type"] == "content_block_start":
                blocks.append({**event["content_block"], "json": ""})
            elif event["type"] == "content_block_delta":
                for key in ("text", "thinking", "signature"):
                    if key in event["delta"]:
                        blocks[-1][key] += event["delta"][key]
                blocks[-1]["json"] += event["delta"].get("partial_json", "")
        calls = [block for block in blocks if block["type"] == "tool_use"]
        stop = events[-2]["delta"]["stop_reason"]
        assert (stop == "tool_use") == bool(calls)
        if turn == 0:
            assert calls and calls[0]["name"] in DECLARED
        for block in blocks:
            text = block.pop("json")
            if block["type"] == "tool_use":
                block["input"] = json.loads(text)
        messages.append({"role": "assistant", "content": blocks})
        messages.append({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "4 degrees"}]}
            for call in calls] + [remind]})
    count = claude_code(messages)
    for key in ("max_tokens", "stream", "temperature", "metadata", "context_management"):
        del count[key]
    assert pilot.post("/v1/messages/count_tokens?beta=true", count)["input_tokens"] > 100


def codex(items):
    """Codex: everything sent again each turn, reasoning only in its sealed form."""
    return {
        "model": "pilot", "instructions": "You are Codex.", "input": items, "stream": True, "store": False,
        "tools": [
            {"type": "function", "name": "get_weather", "description": "get weather", "strict": False,
             "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
            {"type": "function", "name": "shell", "description": "Runs a command", "strict": False,
             "parameters": SHELL},
            {"type": "custom", "name": "apply_patch", "description": "Changes files.",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch hunk+ end_patch"}},
            {"type": "web_search", "external_web_access": False}],
        "tool_choice": "auto", "parallel_tool_calls": True, "temperature": 0,
        "reasoning": {"effort": "medium", "summary": "auto"}, "text": {"verbosity": "low"},
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199-session",
        "client_metadata": {"x-codex-installation-id": "i"},
    }


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_a_codex_session_calls_a_tool_and_reads_its_output(pilot, path):
    items = [
        {"type": "message", "role": "developer", "content": [
            {"type": "input_text", "text": "<permissions instructions>none</permissions instructions>"}]},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "<environment_context>\n  <cwd>/tmp</cwd>\n</environment_context>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": TASK}]}]
    headers = {"Authorization": "Bearer x", "OpenAI-Beta": "responses=experimental", "session_id": "0199"}
    for turn in range(2):
        events = post(pilot, path, codex(items), headers)
        assert events[0]["type"] == "response.created"
        assert events[-1]["type"] == "response.completed" and events[-1]["response"]["usage"]["total_tokens"]
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        assert done == events[-1]["response"]["output"]
        for item in done:
            item.pop("id")
            item.pop("status")
            if item["type"] == "reasoning":
                assert item.pop("content") and item["encrypted_content"]
            items.append(item)
        calls = [item for item in done if item["type"].endswith("_call")]
        if turn == 0:
            assert calls and calls[0]["name"] in DECLARED
        for call in calls:
            items.append({"type": call["type"] + "_output", "call_id": call["call_id"], "output": "4 degrees"})
    assert done[-1]["type"] in ("message", "function_call")


def opencode(messages):
    """opencode, by its AI SDK's provider for OpenAI-compatible servers: schemas with their dialect named, and a
    limit that is the model's own."""
    def tool(name, description, properties, required):
        return {"type": "function", "function": {"name": name, "description": description, "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": properties,
            "required": required, "additionalProperties": False}}}
    return {
        "model": "pilot", "max_tokens": 32000, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, "messages": messages, "tool_choice": "auto",
        "tools": [
            tool("get_weather", "get weather", {"city": {"type": "string", "description": "The city"}}, ["city"]),
            tool("bash", "Executes a command.", {
                "command": {"type": "string", "description": "The command"},
                "timeout": {"type": "number", "description": "Optional timeout in milliseconds"}}, ["command"]),
            tool("todowrite", "Keeps a list.", {"todos": {"type": "array", "items": {
                "type": "object", "properties": {"content": {"type": "string"}, "status": {"type": "string"}},
                "required": ["content", "status"], "additionalProperties": False}}}, ["todos"])],
    }


def test_an_opencode_session_calls_a_tool_and_reads_its_result(pilot):
    headers = {"Authorization": "Bearer x", "User-Agent": "opencode/1.0.0 ai-sdk/openai-compatible/1.0.0"}
    messages = [{"role": "system", "content": "You are opencode."}, {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": TASK}]}]
    for turn in range(2):
        request = urllib.request.Request(pilot.url + "/v1/chat/completions", json.dumps(opencode(messages)).encode(),
                                         {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            frames = answer.read().decode().split("\n\n")
        assert frames[-2:] == ["data: [DONE]", ""]
        chunks = [json.loads(frame[6:]) for frame in frames[:-2] if not frame.startswith(":")]
        assert chunks[-1]["usage"]["total_tokens"] > 0 and chunks[-1]["choices"] == []
        said = {"role": "assistant", "content": "", "reasoning_content": ""}
        calls = []
        for delta in (chunk["choices"][0]["delta"] for chunk in chunks[:-1]):
            for key in ("content", "reasoning_content"):
                said[key] += delta.get(key) or ""
            for piece in delta.get("tool_calls", []):
                if piece["index"] == len(calls):  # the first piece has the id, the name and no arguments yet
                    assert piece["id"] and piece["type"] == "function" and piece["function"]["name"]
                    calls.append({**piece, "function": dict(piece["function"])})
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
        finish = chunks[-2]["choices"][0]["finish_reason"]
        assert finish == ("tool_calls" if calls else "stop")
        if turn == 0:
            assert calls[0]["function"]["name"] in (*DECLARED, "bash", "todowrite")
        for call in calls:
            del call["index"]
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
        messages.append({**said, "tool_calls": calls} if calls else said)
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": "4 degrees"} for call in calls]
