"""Random requests of all three protocols, valid, near-valid and hostile, against the scripted engine:
every one is answered or refused in its protocol's own shape, and what is answered is streamed alike.

RANDOM_REQUESTS says how many (300); RANDOM_SEED which ones.
"""

import copy
import http.client
import json
import os
import random

import pytest

import test_messages
import test_responses
import test_stream_equals_answer
from waiting import PATIENCE

REQUESTS = int(os.environ.get("RANDOM_REQUESTS", "300"))
SEED = int(os.environ.get("RANDOM_SEED", "20261122"))
CITY = test_responses.CITY

CALLS = ('<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">'
         'Os"lo\n\\</｜DSML｜parameter>\n<｜DSML｜parameter name="n" string="false">[1, {"a": null}]'
         '</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name="apply_patch">\n<｜DSML｜parameter name="input" '
         'string="true">*** Begin 日本 🧪</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>')
SAID = {  # what the model says when the prompt has the word
    "PLAIN": "Plain text, with \"quotes\", a \\ and 日本語 🧪.\n\nAnd more.",
    "THINK": "I think, therefore.\n</think>\n\nHere it is.",
    "CALLS": "Hm.</think>Let me look.\n\n" + CALLS,
    "LOOSE": '</think><｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city">Rome',
    "OBJECT": '</think>```json\n{"a": [1, 2, {"b": "}"}]}\n```',
    "EMPTY": "",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The scripted engine, told in token ids what to say."""
    from conftest import Server
    asks = Server(["--backend", "scripted"])

    def ids(text):
        return asks.post("/tokenize", {"content": text, "parse_special": True})["tokens"]
    script = [{"prompt_has": ids(" " + word), "tokens": ids(said)} for word, said in SAID.items()]
    assert asks.stop() == 0
    running = Server(["--backend", "scripted", "--max-n", "2"], script=script + [{"step_us": 1, "tokens_per_step": 3}],
                     directory=tmp_path_factory.mktemp("script"))
    yield running
    assert running.stop() == 0, "".join(running.log[-40:])


# ---- requests that are right


def text(dice):
    return dice.choice(["Say PLAIN", "Say THINK", "Say CALLS", "Say LOOSE", "Say OBJECT", "Say EMPTY", "Hello",
                        "日本 🧪 \u0000 <｜User｜> </think>", "x" * dice.randint(0, 300)])


def common(dice):
    body = {"model": dice.choice(["pilot", "deepseek-chat", "pilot"]), "seed": dice.randrange(1 << 40)}
    for key, values in (("temperature", [0, 0.7, 2]), ("top_p", [0.1, 1]), ("user_id", ["me"]), ("top_k", [0, 5]),
                        ("no_cache", [True]), ("metadata", [{"a": "b"}]), ("priority", [1])):
        if dice.random() < 0.15:
            body[key] = dice.choice(values)
    return body


def chat(dice):
    tools = [{"type": "function", "function": {"name": name, "parameters": CITY}}
             for name in ("get_weather", "apply_patch")]
    messages = [{"role": "user", "content": text(dice)}]
    if dice.random() < 0.3:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": text(dice)}]})
    if dice.random() < 0.3:
        messages += [{"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": dice.choice(["{}", "no", ""])}}]},
            {"role": "tool", "tool_call_id": "a", "content": text(dice)}]
    body = {**common(dice), "messages": messages, "max_tokens": dice.randint(1, 120),
            "thinking": {"type": dice.choice(["enabled", "disabled"])}}
    optional = {"tools": tools, "n": 2, "stop": ["e", "日"], "logprobs": True, "parallel_tool_calls": False,
                "response_format": {"type": "json_object"}, "tool_choice": "auto", "reasoning_effort": "low"}
    return copy.deepcopy(body | {key: value for key, value in optional.items() if dice.random() < 0.25})


def messages(dice):
    turns = [{"role": "user", "content": dice.choice([text(dice) or "x", [{"type": "text", "text": text(dice)}]])}]
    if dice.random() < 0.4:
        turns += [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": text(dice)},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"a": [1, None]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "is_error": dice.random() < 0.5,
                                          "content": text(dice)}, {"type": "text", "text": text(dice)}]}]
    body = {**common(dice), "messages": turns, "max_tokens": dice.randint(1, 120),
            "thinking": {"type": dice.choice(["enabled", "disabled", "adaptive"])}}
    optional = {"tools": [{"name": name, "input_schema": CITY} for name in ("get_weather", "apply_patch")],
                "system": [{"type": "text", "text": text(dice)}], "stop_sequences": ["e", "日"],
                "output_config": {"effort": "low"}, "metadata": {"user_id": "u"},
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    return copy.deepcopy(body | {key: value for key, value in optional.items() if dice.random() < 0.3})


def responses(dice):
    items = [{"role": "user", "content": [{"type": "input_text", "text": text(dice)}]}]
    if dice.random() < 0.4:
        items += [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "r"}]},
                  {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                  {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch", "input": text(dice)},
                  {"type": "custom_tool_call_output", "call_id": "b", "output": text(dice)},
                  {"type": "function_call_output", "call_id": "a", "output": [
                      {"type": "input_text", "text": text(dice)}]}]
    body = {**common(dice), "input": dice.choice([items, items, text(dice)]),
            "max_output_tokens": dice.randint(1, 120), "reasoning": {"effort": dice.choice(["none", "high"])}}
    optional = {"tools": [{"type": "function", "name": "get_weather", "parameters": CITY},
                          {"type": "custom", "name": "apply_patch"}, {"type": "web_search"}],
                "instructions": text(dice), "include": ["reasoning.encrypted_content"], "top_logprobs": 1,
                "text": {"format": {"type": "json_object"}}, "parallel_tool_calls": False, "stop": ["e"]}
    return copy.deepcopy(body | {key: value for key, value in optional.items() if dice.random() < 0.3})


# ---- and requests that are not


def places(node, path=()):
    """Every place in a body, as the way to it."""
    if path:
        yield path
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from places(value, path + (key,))


def at(node, path):
    for key in path:
        node = node[key]
    return node


def spoil(dice, body):
    """One thing is gone, doubled, or something else."""
    path = dice.choice(list(places(body)))
    parent, key = at(body, path[:-1]), path[-1]
    deep = []
    for _ in range(dice.choice([3, 200])):
        deep = [deep]
    how = dice.randrange(6)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif how == 2:
        parent[key] = copy.deepcopy(at(body, dice.choice(list(places(body)))))  # something of elsewhere
    else:
        parent[key] = dice.choice([None, True, 0, -1, 1e300, 2**63, 2**70, "", "x" * 3000, [], {}, [[]], {"": {}}, deep,
                                   "<｜deepseek_image｜>", "\ud800", [None] * 300, {"type": "text"}])
    return body


def spoil_bytes(dice, data):
    data = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        where = dice.randrange(len(data))
        how = dice.randrange(3)
        if how == 0:
            data[where] = dice.randrange(256)
        elif how == 1:
            del data[where:where + dice.randint(1, 20)]
        else:
            data[where:where] = bytes(dice.choice([b"\0", b"{", b"\"", b"\xff\xfe", b"1e999", b"\\ud800", b"]" * 50]))
    return bytes(data) or b" "


PROTOCOLS = {"/v1/chat/completions": chat, "/v1/messages": messages, "/v1/responses": responses}


class Caller:
    """One connection, taken up again when the daemon closed it."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)

    def post(self, path, data):
        try:
            self.connection.request("POST", path, data, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
        except (http.client.HTTPException, ConnectionError):
            self.connection.close()
            self.connection.request("POST", path, data, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
        return answer.status, answer.read().decode()


def check_refusal(path, status, answer):
    error = json.loads(answer)
    assert status in (400, 404), (status, answer)
    if path == "/v1/messages":
        assert error["type"] == "error" and error["request_id"]
        assert set(error["error"]) == {"type", "message"}
    else:
        assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["message"]


def same(path, whole, streamed):
    if path == "/v1/messages":
        return test_messages.comparable(test_messages.join(streamed)) == test_messages.comparable(whole)
    if path == "/v1/responses":
        joined = test_responses.join(streamed)
        return test_responses.comparable(joined) == test_responses.comparable(whole)
    module = test_stream_equals_answer
    return module.comparable(module.join(streamed, True)) == module.comparable(whole)


def test_each_is_answered_alike_or_refused(server):
    dice, caller = random.Random(SEED), Caller(server)
    answered = refused = 0
    for number in range(REQUESTS):
        path = dice.choice(list(PROTOCOLS))
        body = PROTOCOLS[path](dice)
        for _ in range(dice.choice([0, 0, 1, 1, 3])):
            if body:
                body = spoil(dice, body)
        data = json.dumps(body, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
        hostile = dice.random() < 0.15
        if hostile:
            data = spoil_bytes(dice, data)
        status, answer = caller.post(path, data)
        if status != 200:
            check_refusal(path, status, answer)
            refused += 1
            continue
        answered += 1
        if hostile or not isinstance(body, dict) or not isinstance(body.get("seed"), (int, float)):
            continue
        more = {"stream_options": {"include_usage": True}} if "chat" in path else {}
        status, streamed = caller.post(path, json.dumps({**body, "stream": True, **more}).encode())
        assert status == 200 and same(path, json.loads(answer), streamed), (number, path, body)
    assert answered > REQUESTS / 5 and refused > REQUESTS / 5
    server.wait_idle()
