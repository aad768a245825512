"""The same seeded request, streamed and not, gives the same answer in every field."""

import json
import os
import pathlib
import random
import urllib.request

import pytest
from waiting import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parent.parent
EVAL = ROOT / "models" / "pilot" / "eval.json"
REQUESTS = int(os.environ.get("STREAM_PAIRS", "200"))  # fewer under sanitizers
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
]


def post(server, path, body):
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def chunks(text):
    """The JSON of each event; checks the frames."""
    assert text.endswith("data: [DONE]\n\n")
    frames = text.split("\n\n")
    assert frames.pop() == "" and frames.pop() == "data: [DONE]"
    for frame in frames:
        if frame.startswith(":"):
            continue  # keep-alive
        assert frame.startswith("data: ") and "\n" not in frame
        yield json.loads(frame[6:])


def join_logprobs(whole, part):
    if part is None:
        return whole
    if whole is None:
        return part
    return {key: whole[key] + value if isinstance(value, list) else value
            for key, value in part.items()}


def join_delta(message, delta, index):
    """Adds a delta to the message; checks the rules of a delta."""
    filled = [key for key in ("content", "reasoning_content", "tool_calls") if delta.get(key)]
    assert len(filled) <= 1, delta
    for key in ("content", "reasoning_content"):
        if delta.get(key) is not None:
            message[key] = (message.get(key) or "") + delta[key]
    for call in delta.get("tool_calls", []):
        calls = message.setdefault("tool_calls", [])
        if call["index"] == len(calls):
            assert call["function"]["arguments"] == ""
            calls.append({key: call[key] for key in ("id", "type", "function")})
        else:
            assert call["index"] == len(calls) - 1 and set(call) == {"index", "function"}
            calls[-1]["function"]["arguments"] += call["function"]["arguments"]


def join(text, chat):
    answer, choices, ended = None, {}, set()
    for chunk in chunks(text):
        head = {key: chunk[key] for key in ("id", "created", "model", "system_fingerprint")}
        if answer is None:
            answer = head
        assert {key: answer[key] for key in head} == head
        if chunk.get("usage"):
            answer["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            index = choice["index"]
            assert index not in ended
            if chat:
                first = index not in choices
                assert (choice["delta"].get("role") == "assistant") == first
                whole = choices.setdefault(index, {"index": index, "message": {"role": "assistant"},
                                                   "logprobs": None, "finish_reason": None})
                join_delta(whole["message"], choice["delta"], index)
            else:
                whole = choices.setdefault(
                    index, {"index": index, "text": "", "logprobs": None, "finish_reason": None})
                whole["text"] += choice["text"]
            whole["logprobs"] = join_logprobs(whole["logprobs"], choice["logprobs"])
            if choice["finish_reason"]:
                whole["finish_reason"] = choice["finish_reason"]
                ended.add(index)
    assert ended == set(choices)
    answer["choices"] = [choices[index] for index in sorted(choices)]
    return answer


def comparable(answer):
    """Without what differs by its nature: ids, the second it was made in, what the prefix cache gave."""
    answer = {key: answer[key] for key in ("model", "system_fingerprint", "choices", "usage")}
    answer["usage"] = {
        key: value
        for key, value in (answer["usage"] or {}).items()
        if key not in ("prompt_tokens_details", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens")
    }
    for choice in answer["choices"]:
        message = choice.get("message")
        if message is None:
            continue
        assert message.pop("refusal", None) is None
        if message.get("content") is None:
            message["content"] = ""
        for call in message.get("tool_calls", []):
            assert call.pop("id").startswith("call_")
        if choice["logprobs"] is None or not choice["logprobs"].get("content"):
            choice["logprobs"] = None  # no content, so no chunk to carry an empty list
    return answer


def random_chat(dice, cases):
    case = dice.choice(cases)
    thinking = dice.random() < 0.4
    body = {"messages": case["messages"], "seed": dice.randrange(1 << 40),
            "temperature": dice.choice([0, 0.3, 1, 1.5]), "max_tokens": dice.randint(1, 90),
            "thinking": {"type": "enabled" if thinking else "disabled"}}
    if case["tools"] or dice.random() < 0.2:
        body["tools"] = case["tools"] or TOOLS
        if not thinking and dice.random() < 0.2:
            body["tool_choice"] = "required"
        if dice.random() < 0.2:
            body["parallel_tool_calls"] = False
    if dice.random() < 0.3:
        body.update(logprobs=True, top_logprobs=dice.randint(0, 5))
    if dice.random() < 0.3:
        body["stop"] = dice.sample(["e", "the", ".", "\n", "Fathom", "zz"], dice.randint(1, 3))
    if dice.random() < 0.1:
        body["response_format"] = {"type": "json_object"}
    if thinking and dice.random() < 0.2:
        body[dice.choice(["separate_reasoning", "include_reasoning"])] = False
    if thinking and dice.random() < 0.2:
        body["thinking"]["budget_tokens"] = dice.randint(1, 20)
    return "/v1/chat/completions", body


def random_completion(dice, cases):
    body = {"prompt": dice.choice(["Once upon a time", "1 2 3 4", "The weather in 日本 is"]),
            "seed": dice.randrange(1 << 40), "temperature": dice.choice([0, 1]),
            "max_tokens": dice.randint(1, 40), "echo": dice.random() < 0.4}
    if dice.random() < 0.4:
        body["logprobs"] = dice.randint(0, 5)
    return "/v1/completions", body


@pytest.fixture(scope="module")
def cases():
    """The evaluation's conversations without tool results, as a client sends them."""
    found = []
    for case in json.loads(EVAL.read_text())["cases"]:
        messages = case.get("messages", [])
        plain = all(m["role"] != "tool" and "tool_calls" not in m for m in messages)
        if messages and plain and len(json.dumps(messages)) < 4000:
            tools = [{"type": "function", "function": tool} for tool in case.get("tools") or []]
            found.append({"messages": [{"role": m["role"], "content": m["content"]}
                                       for m in messages], "tools": tools})
    return found


def test_two_hundred_random_requests(pilot, cases):
    dice = random.Random(20260801)
    finishes = set()
    for number in range(REQUESTS):
        path, body = (random_chat if number % 5 else random_completion)(dice, cases)
        whole = json.loads(post(pilot, path, body))
        streamed = post(pilot, path,
                        {**body, "stream": True, "stream_options": {"include_usage": True}})
        joined = join(streamed, "chat" in path)
        finishes |= {choice["finish_reason"] for choice in whole["choices"]}
        assert comparable(joined) == comparable(whole), body
    assert finishes == {"stop", "length", "tool_calls"}


def test_several_choices_of_one_request(serve):
    server = serve("--max-n", "4")
    for seed in range(10):
        body = {"messages": [{"role": "user", "content": f"Hello {seed}"}], "n": 4, "seed": seed,
                "thinking": {"type": "disabled"}, "logprobs": seed % 2 == 0}
        whole = json.loads(post(server, "/v1/chat/completions", body))
        streamed = post(server, "/v1/chat/completions",
                        {**body, "stream": True, "stream_options": {"include_usage": True}})
        assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
        assert len({choice["message"]["content"] for choice in whole["choices"]}) > 1
        assert comparable(join(streamed, True)) == comparable(whole)
