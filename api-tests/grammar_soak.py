"""Answers under random grammars at temperature 2, in every protocol, streamed and whole, with thinking and
without: JSON of random schemas, and calls of random tools. jsonschema judges each.

    build/venv/bin/python api-tests/grammar_soak.py [--schemas N] [--tools N] [--seed K] [--workers W] [--url URL]

Without --url it starts a daemon with the pilot model. Exits with 1 if any answer is wrong; those that
max_tokens cut are counted apart. test_constrained.py runs a short version.
"""

import argparse
import collections
import concurrent.futures
import http.client
import itertools
import json
import random
import sys
import time
import urllib.error
import urllib.request

from random_schemas import judge, schema_number, some_tools

MOST_TOKENS = 6000
WRONG_MOST = 50  # and it gives up
ASKS = ["Give me JSON with the capital of France", "What is the weather in Oslo and in Rome?", "Hello",
        "Write me a name, a number and a list.", "日本の首都は?"]


class Wrong(Exception):
    """An answer that its grammar should have made impossible."""


def post(url, path, body):
    """The events of a stream, or the answer."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as answer:
        text = answer.read().decode()
    if not body.get("stream"):
        return json.loads(text)
    frames = [frame.split("data: ", 1)[1] for frame in text.split("\n\n") if "data: " in frame]
    return [json.loads(frame) for frame in frames if frame != "[DONE]"]


# ---- an answer's choices in any protocol: [(text, thought, [(name, arguments)], cut)]


def from_chat(answer, stream):
    if not stream:
        return [(c["message"]["content"] or "", c["message"].get("reasoning_content") or "",
                 [(f["name"], f["arguments"]) for f in (t["function"] for t in c["message"].get("tool_calls") or [])],
                 c["finish_reason"] == "length") for c in answer["choices"]]
    choices = {}
    for choice in (c for chunk in answer for c in chunk["choices"]):
        text, thought, calls, cut = choices.get(choice["index"], ("", "", [], False))
        for call in choice["delta"].get("tool_calls") or []:
            if "id" in call:
                calls.append((call["function"]["name"], ""))
            else:
                calls[-1] = (calls[-1][0], calls[-1][1] + call["function"]["arguments"])
        choices[choice["index"]] = (text + (choice["delta"].get("content") or ""),
                                    thought + (choice["delta"].get("reasoning_content") or ""), calls,
                                    cut or choice["finish_reason"] == "length")
    return list(choices.values())


def from_responses(answer, stream):
    if stream:
        answer = answer[-1]["response"]
    text = thought = ""
    calls = []
    for item in answer["output"]:
        parts = "".join(part["text"] for part in item.get("content") or [])
        if item["type"] == "reasoning":
            thought += parts
        elif item["type"] == "message":
            text += parts
        else:
            calls.append((item["name"], item["arguments"]))
    return [(text, thought, calls, answer["status"] == "incomplete")]


def from_messages(answer, stream):
    text = thought = ""
    calls = []
    if not stream:
        for block in answer["content"]:
            text += block.get("text", "")
            thought += block.get("thinking", "")
            if block["type"] == "tool_use":
                calls.append((block["name"], json.dumps(block["input"])))
        return [(text, thought, calls, answer["stop_reason"] == "max_tokens")]
    reason = None
    for event in answer:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls.append((event["content_block"]["name"], ""))
        delta = event.get("delta", {})
        text += delta.get("text", "")
        thought += delta.get("thinking", "")
        if "partial_json" in delta:
            calls[-1] = (calls[-1][0], calls[-1][1] + delta["partial_json"])
        reason = delta.get("stop_reason") or reason
    return [(text, thought, [(name, arguments or "{}") for name, arguments in calls], reason == "max_tokens")]


PROTOCOLS = {"chat": ("/v1/chat/completions", from_chat), "responses": ("/v1/responses", from_responses),
             "messages": ("/v1/messages", from_messages)}


settings = {"choices": 1}  # of a chat request
CLOSERS = ['"', '"}', '",', '"]', "}", "]", "}}", "]}", "},", "],", "</", "</think>", "<｜end▁of▁sentence｜>"]
closers = []  # their token ids; liked more, so that texts without a limit end some day at this temperature


def set_closers(url):
    closers.clear()
    for text in CLOSERS:
        ids = post(url, "/tokenize", {"content": text, "parse_special": True})["tokens"]
        if len(ids) == 1:
            closers.append(ids[0])


def common(r, protocol, thinking):
    """A request but for its form."""
    ask = r.choice(ASKS)
    body = {"temperature": 2, "seed": r.getrandbits(40), "stream": r.random() < 0.4, "no_store": r.random() < 0.5,
            "logit_bias": dict.fromkeys(map(str, closers), r.choice([12, 16, 20]))}
    if protocol == "responses":
        return {**body, "input": ask, "max_output_tokens": MOST_TOKENS,
                "reasoning": {"effort": "high" if thinking else "none"}}
    if protocol == "chat":
        body["n"] = settings["choices"]
    budget = {"budget_tokens": r.randint(1, 40)} if r.random() < 0.5 else {}
    return {**body, "messages": [{"role": "user", "content": ask}], "max_tokens": MOST_TOKENS,
            "thinking": {"type": "enabled", **budget} if thinking else {"type": "disabled"}}


def no_marks(text, what):
    for mark in ("｜DSML｜", "</think>"):
        if mark in text:
            raise Wrong(f"{mark} in the {what}: {text[:300]!r}")


# ---- schemas


def with_form(protocol, schema):
    if protocol == "chat":
        return {"response_format": {"type": "json_schema", "json_schema": {
            "name": "form", "schema": schema, "strict": True}}}
    if protocol == "responses":
        return {"text": {"format": {"type": "json_schema", "name": "form", "schema": schema, "strict": True}}}
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def one_schema(url, seed):
    r, schema, _ = schema_number(seed)
    protocol, thinking = r.choice(["chat", "chat", "responses", "messages"]), r.random() < 0.3
    path, read = PROTOCOLS[protocol]
    body = {**common(r, protocol, thinking), **with_form(protocol, schema)}
    return [judge_json(schema, *choice) for choice in read(post(url, path, body), body["stream"])]


def judge_json(schema, text, thought, calls, cut):
    no_marks(thought, "reasoning")
    if cut:
        return "cut"
    if calls:
        raise Wrong(f"calls without tools: {calls}")
    value = json.loads(text, object_pairs_hook=dict)
    errors = [error.message for error in judge(schema).iter_errors(value)]
    if errors:
        raise Wrong(f"{text!r}: {errors[:3]}")
    return "json"


# ---- tools


def with_tools(r, protocol, tools, demand, one):
    names = [tool["name"] for tool in tools]
    if protocol == "messages":
        declared = [{"name": t["name"], "strict": t["strict"], "input_schema": t["parameters"]} for t in tools]
        choice = {"auto": {"type": "auto"}, "required": {"type": "any"},
                  "named": {"type": "tool", "name": names[0]}}[demand]
        return {"tools": declared, "tool_choice": {**choice, "disable_parallel_tool_use": one}}
    more = {"parallel_tool_calls": not one}
    if protocol == "responses":
        named = {"type": "function", "name": names[0]}
        return {**more, "tools": [{"type": "function", **t} for t in tools],
                "tool_choice": named if demand == "named" else demand}
    named = {"type": "function", "function": {"name": names[0]}}
    return {**more, "tools": [{"type": "function", "function": t} for t in tools],
            "tool_choice": named if demand == "named" else demand}


def judge_call(tools, name, arguments):
    declared = {tool["name"]: tool for tool in tools}.get(name)
    if declared is None:
        raise Wrong(f"a call of {name!r}")
    value = json.loads(arguments)
    schema = declared["parameters"]
    if not declared["strict"]:  # names and required ones hold all the same
        schema = {**schema, "properties": {n: {} for n in schema["properties"]}}
        if not schema["properties"]:
            schema = {"type": "object"}
    errors = [error.message for error in judge(schema).iter_errors(value)]
    if errors:
        raise Wrong(f"{name}({arguments}): {errors[:3]}")


def one_tools(url, seed):
    r = random.Random(seed)
    tools, thinking = some_tools(r), r.random() < 0.4
    protocol = r.choice(["chat", "chat", "responses", "messages"])
    demand, one = r.choice(["auto", "required", "named"]), r.random() < 0.3
    path, read = PROTOCOLS[protocol]
    body = {**common(r, protocol, thinking), **with_tools(r, protocol, tools, demand, one)}
    return [judge_calls(tools, demand, one, *choice) for choice in read(post(url, path, body), body["stream"])]


def judge_calls(tools, demand, one, text, thought, calls, cut):
    no_marks(text, "content")
    no_marks(thought, "reasoning")
    for name, arguments in calls[:-1] if cut else calls:
        judge_call(tools, name, arguments)
        if demand == "named" and name != tools[0]["name"]:
            raise Wrong(f"a call of {name}, wanted {tools[0]['name']}")
    if one and len(calls) > 1:
        raise Wrong(f"{len(calls)} calls, wanted one")
    if cut:
        return "cut"
    if demand != "auto" and (not calls or text.strip()):
        raise Wrong(f"no call, or text beside it: {text!r}")
    return "calls" if calls else "text"


# ---- many of them


def attempt(task, url, seed):
    """What became of its choices, and what was wrong."""
    try:
        return task(url, seed), None
    except urllib.error.HTTPError as refused:
        return ["wrong"], f"status {refused.code}: {refused.read()[:500]!r}"
    except http.client.IncompleteRead as ended:
        return ["wrong"], f"the stream broke off: {ended.partial[-500:]!r}"
    except (Wrong, ValueError, LookupError, OSError) as wrong:
        return ["wrong"], f"{type(wrong).__name__}: {wrong}"


def soak(task, url, count, workers=16, seed=0, choices=1, say=None):
    """({outcome: count}, [(seed, what was wrong)]) of `count` answers or a few more."""
    counts, wrong, seeds = collections.Counter(), [], itertools.count(seed)
    settings["choices"] = choices
    set_closers(url)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = {}
        while running or counts.total() < count and len(wrong) < WRONG_MOST:
            while len(running) < workers and counts.total() + len(running) < count and len(wrong) < WRONG_MOST:
                at = next(seeds)
                running[pool.submit(attempt, task, url, at)] = at
            ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                outcomes, why = future.result()
                counts.update(outcomes)
                at = running.pop(future)
                if why:
                    wrong.append((at, why))
                    print(f"{task.__name__} seed {at}: {why}", file=sys.stderr, flush=True)
                if say and counts.total() % 500 < len(outcomes):
                    say(counts)
    return counts, wrong


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--schemas", type=int, default=10000)
    parse.add_argument("--tools", type=int, default=10000)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--workers", type=int, default=6)
    parse.add_argument("--choices", type=int, default=16, help="of a chat request; a server allows --max-n")
    parse.add_argument("--url")
    parse.add_argument("--threads", type=int, default=1, help="of the daemon that is started")
    given = parse.parse_args()
    server = None
    if not given.url:
        from conftest import Server
        server = Server(["--backend", "cpu", "--threads", str(given.threads), "--max-n", str(given.choices),
                         "--kv-memory", "512MiB", "--queue-wait", "1h", "--stall-timeout", "10m"])
    url, failed = given.url or server.url, False
    for name, task, count in (("schemas", one_schema, given.schemas), ("tools", one_tools, given.tools)):
        begun = time.monotonic()
        counts, wrong = soak(task, url, count, given.workers, given.seed, given.choices,
                             lambda done, n=name: print(f"{n}: {dict(done)}", file=sys.stderr, flush=True))
        failed = failed or bool(wrong)
        print(f"{name}: {counts.total()} answers in {time.monotonic() - begun:.0f} s: {dict(counts)}", flush=True)
    if server and server.process.poll() is not None:
        print(f"the daemon ended with {server.process.returncode}:\n", "".join(server.log[-10:]))
    elif server:
        masks = {k: v for k, v in server.metrics().items() if k.startswith(("mask_", "grammar", "forced_"))}
        print(json.dumps(masks))
        server.stop()
    sys.exit(failed)


if __name__ == "__main__":
    main()
