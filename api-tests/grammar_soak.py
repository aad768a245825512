"""Answers under random grammars at temperature 2, in every protocol, streamed and whole, with thinking and
without: JSON of random schemas, and calls of random tools. jsonschema judges each.

    build/venv/bin/python api-tests/grammar_soak.py [--schemas N] [--tools N] [--seed K] [--workers W]
        [--choices C] [--unbiased] [--tokens T] [--crowd] [--faults FILE] [--url URL | -- OPTION ...]

Without --url it starts a daemon with the pilot model and these options. A refusal that says when to come
again, and an answer that the server says it had to stop, are asked for again, as the clients' libraries do,
and counted. JSON that max_tokens cut is continued, with a bias towards what closes it, and then judged whole;
what is cut all the same is counted apart, and of it nothing is judged but whole calls. Exits with 1 if any
answer is wrong, or none came in ATTEMPTS; FILE gets those, with their requests. test_constrained.py runs a
short version.
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
import urllib.parse
import urllib.request

from random_schemas import judge, schema_number, some_tools

ATTEMPTS = 20
WRONG_MOST = 50  # and it gives up
SHOWN = ("mask_", "grammar", "forced_", "preemptions_", "cache_hit_tokens_total", "requests_total")
ASKS = ["Give me JSON with the capital of France", "What is the weather in Oslo and in Rome?", "Hello",
        "Write me a name, a number and a list.", "日本の首都は?"]
settings = {"choices": 1,      # of a chat request
            "biased": True,    # towards what closes a text
            "tokens": 6000,    # max_tokens
            "crowd": False}    # some clients leave, and priorities differ, so that others' places are taken


class Wrong(Exception):
    """An answer that its grammar should have made impossible."""


class Stopped(Exception):
    """The server says that it had to stop the answer, or could not begin it."""

    def __init__(self, what, seconds=1):
        super().__init__(what)
        self.seconds = seconds


class Exchange:
    """A request, and what came of the latest attempt at it."""

    def __init__(self):
        self.path = self.body = self.id = None
        self.text = ""
        self.again = collections.Counter()  # why it was asked for again

    def ask(self, url, path, body):
        """The events of a stream, or the answer."""
        self.path, self.body = path, body
        r = random.Random(body.get("seed", 0))
        if settings["crowd"] and r.random() < 0.3:
            self.hang_up(url, r.uniform(0, 2))
        for _ in range(ATTEMPTS):
            try:
                return self.attempt(url)
            except Stopped as stopped:
                self.again[str(stopped)] += 1
                time.sleep(stopped.seconds)
        raise Wrong(f"{ATTEMPTS} attempts: {dict(self.again)}")

    def hang_up(self, url, seconds):
        address = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request("POST", self.path, json.dumps(self.body))
        time.sleep(seconds)
        connection.close()

    def attempt(self, url):
        self.text, self.id = "", None
        request = urllib.request.Request(url + self.path, json.dumps(self.body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=3600) as answer:
                self.id = answer.headers["X-Request-Id"]
                self.text = answer.read().decode()
        except http.client.IncompleteRead as ended:
            self.text = ended.partial.decode("utf-8", "replace")
            raise
        except urllib.error.HTTPError as refused:
            self.id, self.text = refused.headers["X-Request-Id"], refused.read().decode()
            again = refused.headers["Retry-After"]
            if refused.code not in (429, 503, 529) or again is None:
                raise Wrong(f"status {refused.code}") from None
            raise stopped(json.loads(self.text), f"status {refused.code}", float(again)) from None
        if not self.body.get("stream"):
            return not_stopped(json.loads(self.text))
        frames = [frame.split("data: ", 1)[1] for frame in self.text.split("\n\n") if "data: " in frame]
        events = [not_stopped(json.loads(frame)) for frame in frames if frame != "[DONE]"]
        if (frames[-1] if "[DONE]" in frames else events[-1].get("type")) not in LAST:
            raise Wrong("the stream has no end")
        return events


LAST = ("[DONE]", "response.completed", "response.incomplete", "message_stop")


def stopped(failed, where, seconds=1):
    """What to raise: an engine that fails is a fault, a server that is full is not."""
    said = f"{where}: {failed['error']['message']}"
    return Wrong(said) if "the engine" in said else Stopped(said, seconds)


def not_stopped(event):
    """An answer or an event of a stream, as it is, unless it says that the server had to stop."""
    if event.get("error"):
        raise stopped(event, "in a stream")
    if event.get("type") == "response.failed":
        raise stopped(event["response"], "in a stream")
    for choice in event.get("choices", []):
        if choice["finish_reason"] == "insufficient_system_resource":
            raise Stopped("insufficient_system_resource")
    return event


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


CLOSERS = ['"', '"}', '",', '"]', "}", "]", "}}", "]}", "},", "],", "</", "</think>", "<｜end▁of▁sentence｜>"]
closers = {}  # {text: token id}; liked more, so that texts without a limit end some day at this temperature


def set_closers(url):
    closers.clear()
    for text in CLOSERS:
        ids = Exchange().ask(url, "/tokenize", {"content": text, "parse_special": True})["tokens"]
        if len(ids) == 1:
            closers[text] = ids[0]


def towards_closers(bias, commas=True):
    return {str(token): bias for text, token in closers.items() if commas or not text.endswith(",")}


def common(r, protocol, thinking):
    """A request but for its form."""
    ask = r.choice(ASKS)
    bias = r.choice([12, 16, 20])
    body = {"temperature": 2, "seed": r.getrandbits(40), "stream": r.random() < 0.4, "no_store": r.random() < 0.5}
    if settings["crowd"]:
        body["priority"] = r.randrange(4)
    if settings["biased"]:
        body["logit_bias"] = towards_closers(bias)
    if protocol == "responses":
        return {**body, "input": ask, "max_output_tokens": settings["tokens"],
                "reasoning": {"effort": "high" if thinking else "none"}}
    if protocol == "chat":
        body["n"] = settings["choices"]
    budget = {"budget_tokens": r.randint(1, 40)} if r.random() < 0.5 else {}
    return {**body, "messages": [{"role": "user", "content": ask}], "max_tokens": settings["tokens"],
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


def one_schema(exchange, url, seed):
    r, schema, _ = schema_number(seed)
    protocol, thinking = r.choice(["chat", "chat", "responses", "messages"]), r.random() < 0.3
    path, read = PROTOCOLS[protocol]
    body = {**common(r, protocol, thinking), **with_form(protocol, schema)}
    outcomes = []
    for text, thought, calls, cut in read(exchange.ask(url, path, body), body["stream"]):
        outcome = judge_json(schema, text, thought, calls, cut)
        if outcome == "cut" and text.strip():
            outcome = continued(exchange, url, schema, body, text)
        outcomes.append(outcome)
    return outcomes


def continued(exchange, url, schema, body, begun):
    """An answer that was cut goes on as the continuation of its text, now with every help to end; then all
    of it is judged. "cut" where that did not end either."""
    said = body.get("input") or body["messages"][0]["content"]
    again = {"messages": [{"role": "user", "content": said},
                          {"role": "assistant", "content": begun, "prefix": True}],
             "temperature": 2, "seed": body["seed"], "max_tokens": 2000, "thinking": {"type": "disabled"},
             "logit_bias": towards_closers(40, commas=False), **with_form("chat", schema)}
    [(text, thought, calls, cut)] = from_chat(exchange.ask(url, "/v1/chat/completions", again), False)
    outcome = judge_json(schema, begun + text, thought, calls, cut)
    return "continued" if outcome == "json" else outcome


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


def one_tools(exchange, url, seed):
    r = random.Random(seed)
    tools, thinking = some_tools(r), r.random() < 0.4
    protocol = r.choice(["chat", "chat", "responses", "messages"])
    demand, one = r.choice(["auto", "required", "named"]), r.random() < 0.3
    path, read = PROTOCOLS[protocol]
    body = {**common(r, protocol, thinking), **with_tools(r, protocol, tools, demand, one)}
    return [judge_calls(tools, demand, one, *choice) for choice in read(exchange.ask(url, path, body), body["stream"])]


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
    """What became of its choices, what was wrong, and the exchange."""
    exchange = Exchange()
    try:
        return task(exchange, url, seed), None, exchange
    except http.client.IncompleteRead:
        return ["wrong"], "the stream broke off", exchange
    except (Wrong, ValueError, LookupError, TypeError, AttributeError, OSError) as wrong:
        return ["wrong"], f"{type(wrong).__name__}: {wrong}", exchange


def soak(task, url, count, workers=16, seed=0, choices=1, say=None, told=None):
    """({outcome: count}, [(seed, what was wrong)]) of `count` answers or a few more. `told` gets each
    exchange: (seed, what was wrong or None, exchange)."""
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
                outcomes, why, exchange = future.result()
                counts.update(outcomes)
                at = running.pop(future)
                if why:
                    wrong.append((at, why))
                    print(f"{task.__name__} seed {at}: {why}", file=sys.stderr, flush=True)
                if told:
                    told(at, why, exchange)
                if say and counts.total() % 500 < len(outcomes):
                    say(counts)
    return counts, wrong


class Record:
    """What is told of many exchanges: why requests were repeated, and in a file each that went wrong."""

    def __init__(self, path):
        self.again = collections.Counter()
        self.file = open(path, "a") if path else None

    def __call__(self, seed, why, exchange):
        self.again.update(exchange.again)
        if self.file and (why or exchange.again):
            entry = {"at": time.time(), "seed": seed, "wrong": why, "again": exchange.again, "id": exchange.id,
                     "path": exchange.path, "request": exchange.body, "answer": exchange.text}
            self.file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self.file.flush()


def arguments():
    parse = argparse.ArgumentParser()
    parse.add_argument("--schemas", type=int, default=10000)
    parse.add_argument("--tools", type=int, default=10000)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--workers", type=int, default=32)
    parse.add_argument("--choices", type=int, default=1, help="of a chat request; a server allows --max-n")
    parse.add_argument("--unbiased", action="store_true", help="nothing helps texts to end")
    parse.add_argument("--tokens", type=int, default=settings["tokens"], help="max_tokens of each")
    parse.add_argument("--crowd", action="store_true", help="some clients leave, and priorities differ")
    parse.add_argument("--faults", help="a file for requests that went wrong or had to be repeated")
    parse.add_argument("--url")
    parse.add_argument("options", nargs="*", help="of the daemon that is started")
    return parse.parse_args()


def main():
    given = arguments()
    server, failed, record = None, False, Record(given.faults)
    settings.update(biased=not given.unbiased, tokens=given.tokens, crowd=given.crowd)
    if not given.url:
        from conftest import Server
        server = Server(["--backend", "cpu", "--max-n", str(given.choices), *given.options])
    for name, task, count in (("schemas", one_schema, given.schemas), ("tools", one_tools, given.tools)):
        begun = time.monotonic()
        counts, wrong = soak(task, given.url or server.url, count, given.workers, given.seed, given.choices,
                             lambda done, n=name: print(f"{n}: {dict(done)}", file=sys.stderr, flush=True), record)
        failed = failed or bool(wrong)
        print(f"{name}: {counts.total()} answers in {time.monotonic() - begun:.0f} s: {dict(counts)}; "
              f"asked again: {dict(record.again)}", flush=True)
        record.again.clear()
    if server and server.process.poll() is not None:
        print(f"the daemon ended with {server.process.returncode}:\n", "".join(server.log[-10:]))
        failed = True
    elif server:
        seen = server.metrics()
        print(json.dumps({k: seen[k] for k in seen if k.startswith(SHOWN) and "_bucket" not in k}))
        print(*(line for line in server.log if '"level":"error"' in line or '"level":"warn"' in line), sep="")
        server.stop()
    sys.exit(failed)


if __name__ == "__main__":
    main()
