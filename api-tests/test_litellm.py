"""LiteLLM as a client of all three protocols. It wants another version of OpenAI's package than the other
tests, so it lives in an environment of its own (pip install litellm mcp), whose interpreter LITELLM_PYTHON
names; else skipped."""

import json
import os
import subprocess

import pytest

PYTHON = os.environ.get("LITELLM_PYTHON")
if not PYTHON:
    pytest.skip("LITELLM_PYTHON names no interpreter that has litellm", allow_module_level=True)

SESSION = """
import json, sys, litellm
model, base = sys.argv[1:]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "get weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "The city"}}, "required": ["city"]}}}]
def ask(messages, **more):
    return litellm.completion(model=model, api_base=base, api_key="none", messages=messages, max_tokens=200,
                              num_retries=0, **more)
first = [{"role": "user", "content": "What is the weather in Oslo?"}]
message = ask(first, tools=TOOLS).choices[0].message
call = message.tool_calls[0]
history = first + [message.model_dump(exclude_none=True),
                   {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"}]
chunks = list(ask([{"role": "user", "content": "Hello"}], stream=True))
try:
    ask([{"role": "user", "content": "Hello"}], top_p=7)
    refused = None
except litellm.BadRequestError as error:
    refused = error.status_code
print(json.dumps({"name": call.function.name, "arguments": call.function.arguments,
                  "reasoning": message.reasoning_content, "refused": refused,
                  "answer": ask(history, tools=TOOLS).choices[0].message.content,
                  "streamed": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)}))
"""


@pytest.mark.parametrize("model, path", [
    ("openai/pilot", "/v1"), ("deepseek/pilot", ""), ("anthropic/claude-any", "")])
def test_a_session_through_each_provider(pilot, model, path):
    done = subprocess.run([PYTHON, "-c", SESSION, model, pilot.url + path], capture_output=True, text=True,
                          timeout=120, env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["name"] == "get_weather" and json.loads(said["arguments"]) == {"city": "Oslo"}
    assert said["reasoning"] and said["answer"] and said["streamed"] and said["refused"] == 400
