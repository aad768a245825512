"""Looks at every answer and every event that any test receives, whichever client it uses: does it have the
shape that OpenAI's own description of its API, or Anthropic's own types, give it?

The description is looked for at $FATHOM_SHARED or ../shared; without it OpenAI's shapes go unchecked. Ours in
addition: error objects, whose four keys are promised, and the finish_reason of an engine that had to stop. Of
shapes seen before, with other texts in them, one is looked at: the tests read hundreds of thousands of events.
"""

import functools
import gzip
import http.client
import json
import os
import pathlib

import httpx2
import jsonschema
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from pydantic import TypeAdapter

SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", pathlib.Path(__file__).resolve().parents[2] / "shared"))
SUBSET = SHARED / "fixtures" / "api" / "openai-openapi-subset.json.gz"
TELLING = {"type", "object", "role", "finish_reason", "status", "stop_reason", "service_tier", "effort"}
OBJECTS = {"chat.completion": "CreateChatCompletionResponse", "text_completion": "CreateCompletionResponse",
           "chat.completion.chunk": "CreateChatCompletionStreamResponse", "response": "Response",
           "list": "ListModelsResponse", "model": "Model"}
OURS = {"insufficient_system_resource": "stop"}
ANTHROPIC_ERRORS = {"invalid_request_error", "authentication_error", "permission_error", "not_found_error",
                    "request_too_large", "rate_limit_error", "api_error", "overloaded_error", "billing_error",
                    "timeout_error"}

faults = []  # of the test under way
checked = {}  # name of a shape: how many different ones of it were looked at
seen = set()


# ---- what the shapes are


def in_json_schema(node):
    """The description with OpenAPI's `nullable`, which JSON Schema ignores, written out."""
    if isinstance(node, list):
        return [in_json_schema(value) for value in node]
    if not isinstance(node, dict):
        return node
    plain = {key: in_json_schema(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


@functools.cache
def components():
    if not SUBSET.exists():
        return None
    with gzip.open(SUBSET) as file:
        return in_json_schema(json.load(file)["components"])


@functools.cache
def validator(name):
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components()})


@functools.cache
def event_names():
    """The schema of each type of Responses event."""
    schemas, names = components()["schemas"], {}
    for branch in schemas["ResponseStreamEvent"]["anyOf"]:
        name = branch["$ref"].rsplit("/", 1)[1]
        for kind in schemas[name]["properties"]["type"]["enum"]:
            names[kind] = name
    return names


@functools.cache
def strict(kind):
    return TypeAdapter(kind)


# ---- looking


def signature(node, key=None):
    """The shape without its texts."""
    if isinstance(node, dict):
        return tuple(sorted((name, signature(value, name)) for name, value in node.items()))
    if isinstance(node, list):
        return frozenset(signature(value, key) for value in node)
    return node if isinstance(node, str) and key in TELLING else type(node).__name__


def completion(body):
    """As described. The description leaves out that streams know no reason until the end, and that nothing tells
    how likely an echoed prompt's first token was."""
    body = {key: value for key, value in body.items() if key != "usage" or value is not None}
    body["choices"] = [{**c, "finish_reason": c.get("finish_reason") or "stop"} for c in body["choices"]]
    for choice in body["choices"]:
        lists = choice.get("logprobs") or {}
        if lists.get("token_logprobs", [0])[:1] == [None]:
            choice["logprobs"] = {**lists, "token_logprobs": lists["token_logprobs"][1:],
                                  "top_logprobs": lists["top_logprobs"] and lists["top_logprobs"][1:]}
    return body


def openai(name, body):
    if components() is None:
        return
    if name == "CreateCompletionResponse":
        body = completion(body)
    if "choices" in body:
        body = {**body, "choices": [{**c, "finish_reason": OURS.get(c.get("finish_reason"), c.get("finish_reason"))}
                                    for c in body["choices"]]}
    validator(name).validate(body)


def anthropic(kind, body):
    strict(kind).validate_json(json.dumps(body), strict=True)


def openai_error(body):
    error = body["error"]
    assert set(body) == {"error"} and set(error) == {"message", "type", "param", "code"}, body
    assert error["message"] and error["type"], body
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code")), body


def anthropic_error(body):
    assert set(body) - {"request_id"} == {"type", "error"} and set(body["error"]) - {"details"} == {"type", "message"}, body
    assert body["error"]["type"] in ANTHROPIC_ERRORS and body["error"]["message"], body


def shape_of(body, event):
    """The name of what this is, and who judges it; None for what has no shape to keep."""
    kind = body.get("type")
    if isinstance(body.get("error"), dict) and "type" not in body and "object" not in body:
        return "error", openai_error
    if kind == "error" and isinstance(body.get("error"), dict):
        return "error of Anthropic's", anthropic_error
    if body.get("object") in OBJECTS:
        name = OBJECTS[body["object"]]
        return name, lambda b: openai(name, b)
    if event and "sequence_number" in body:
        assert components() is None or kind in event_names(), f"no such event: {kind}"
        return kind, lambda b: openai(event_names()[kind], b) if components() else None
    if kind == "message":
        return "Message", lambda b: anthropic(Message, b)
    if set(body) == {"input_tokens"}:
        return "MessageTokensCount", lambda b: anthropic(MessageTokensCount, b)
    if event and kind == "ping":
        assert body == {"type": "ping"}
        return None
    if event:
        return kind, lambda b: anthropic(RawMessageStreamEvent, b)
    return None


def judge(body, event):
    if not isinstance(body, dict):
        return
    found = shape_of(body, event)
    if not found:
        return
    name, check = found
    key = name, signature(body)
    if key not in seen:
        check(body)
        seen.add(key)
        checked[name] = checked.get(name, 0) + 1


def frames_of(text):
    """The events of a stream that came whole; comments are none."""
    for frame in text.split("\n\n")[:-1]:
        data = [line[6:] for line in frame.split("\n") if line.startswith("data: ")]
        if data and data[0] != "[DONE]":
            yield json.loads(data[0])


def look(content_type, body):
    """At an answer's whole body, or what was read of a stream. What is wrong goes to faults: clients swallow
    exceptions."""
    try:
        if content_type.startswith("text/event-stream"):
            for event in frames_of(body.decode()):
                judge(event, True)
        elif content_type.startswith("application/json") and body:
            judge(json.loads(body), False)
    except Exception as error:  # every way of being wrong
        faults.append(f"{type(error).__name__}: {str(error)[:1500]}\nin: {body[:600]!r}")


# ---- where clients read: OpenAI's and Anthropic's, and the standard library's (raw.py calls look itself)


class Kept:
    """A response's stream that keeps what passes; looked at when it is over, however it ends."""

    def __init__(self, response):
        self.inner, self.type, self.kept = response.stream, response.headers.get("content-type", ""), []
        self.whole = False

    def over(self):
        kept, self.kept = b"".join(self.kept), []
        if kept and (self.whole or "event-stream" in self.type):
            look(self.type, kept)


class KeptSync(Kept, httpx2.SyncByteStream):
    def __iter__(self):
        for piece in self.inner:
            self.kept.append(piece)
            yield piece
        self.whole = True

    def close(self):
        self.over()
        self.inner.close()


class KeptAsync(Kept, httpx2.AsyncByteStream):
    async def __aiter__(self):
        async for piece in self.inner:
            self.kept.append(piece)
            yield piece
        self.whole = True

    async def aclose(self):
        self.over()
        await self.inner.aclose()


def install():
    plain, plain_async = httpx2.HTTPTransport.handle_request, httpx2.AsyncHTTPTransport.handle_async_request
    read = http.client.HTTPResponse.read

    def handle_request(self, request):
        response = plain(self, request)
        response.stream = KeptSync(response)
        return response

    async def handle_async_request(self, request):
        response = await plain_async(self, request)
        response.stream = KeptAsync(response)
        return response

    def read_all(self, amt=None):
        body = read(self) if amt is None else read(self, amt)
        if amt is None:
            look(self.headers.get("content-type", ""), body)
        return body

    httpx2.HTTPTransport.handle_request = handle_request
    httpx2.AsyncHTTPTransport.handle_async_request = handle_async_request
    http.client.HTTPResponse.read = read_all
