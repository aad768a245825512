"""POST /v1/messages and its count_tokens, by Anthropic's own client."""

import json
import os
import random
import socket
import urllib.request

import anthropic
import pytest
from jiter import from_json
from keyfile import make_file
from waiting import PATIENCE

PAIRS = int(os.environ.get("STREAM_PAIRS", "60")) // 2
WEATHER = {"name": "get_weather", "description": "get weather", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "description": "The city"}},
    "required": ["city"]}}
TIME = {**WEATHER, "name": "get_time", "description": "get time"}
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
BOTH = [{"role": "user", "content": "What is the weather in Oslo and in Rome?"}]
HELLO = [{"role": "user", "content": "Hello"}]
OFF = {"type": "disabled"}


def client_of(server, **more):
    return anthropic.Anthropic(base_url=server.url, api_key="none", **{"max_retries": 0, **more})


@pytest.fixture
def claude(pilot):
    return client_of(pilot)


def ask(client, messages=HELLO, **more):
    more = {"model": "pilot", "max_tokens": 200, "extra_body": {"temperature": 0}, **more}
    return client.messages.create(messages=messages, **more)


def texts(message):
    return [(block.type, getattr(block, block.type, None)) for block in message.content]


def calls_of(message):
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def use(ident, city):
    return {"type": "tool_use", "id": ident, "name": "get_weather", "input": {"city": city}}


def result(ident, content="4 degrees", **more):
    return {"type": "tool_result", "tool_use_id": ident, "content": content, **more}


# ---- answers


def test_a_message_has_the_fields_of_the_clients_type(claude):
    message = ask(claude, thinking=OFF)
    assert message.id.startswith("msg_") and message.type == "message" and message.role == "assistant"
    assert [block.type for block in message.content] == ["text"] and message.content[0].text
    assert message.stop_reason == "end_turn" and message.stop_sequence is None
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens > 0 and usage.output_tokens > 0
    assert usage.cache_creation_input_tokens == 0 and message._request_id


def test_thinking_is_a_block_of_its_own_with_a_signature(claude):
    for more in ({}, {"thinking": {"type": "enabled", "budget_tokens": 1024}},
                 {"thinking": {"type": "adaptive"}}, {"output_config": {"effort": "low"}}):
        message = ask(claude, **more)
        assert [block.type for block in message.content] == ["thinking", "text"], more
        assert message.content[0].thinking and message.content[0].signature
        assert 0 < message.usage.output_tokens_details.thinking_tokens < message.usage.output_tokens


def test_the_thinking_budget_ends_the_thinking_and_the_answer_goes_on(claude):
    message = ask(claude, thinking={"type": "enabled", "budget_tokens": 3})
    assert message.usage.output_tokens_details.thinking_tokens <= 4
    assert message.content[-1].type == "text" and message.content[-1].text


def test_the_name_of_a_claude_is_this_servers_model(claude):
    assert ask(claude, model="claude-opus-4-7", max_tokens=4).model == "claude-opus-4-7"
    with pytest.raises(anthropic.NotFoundError) as refused:
        ask(claude, model="gpt-4")
    assert refused.value.body["error"]["type"] == "not_found_error"


def test_max_tokens_ends_with_its_reason(claude):
    message = ask(claude, thinking=OFF, max_tokens=3)
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 3


def test_a_stop_sequence_is_named_and_left_out(claude):
    whole = ask(claude, thinking=OFF).content[0].text
    stop = whole.split()[1]
    message = ask(claude, thinking=OFF, stop_sequences=["zzzz", stop])
    assert message.stop_reason == "stop_sequence" and message.stop_sequence == stop
    assert message.content[0].text == whole[:whole.index(stop)]


def test_system_is_a_string_or_blocks_and_says_the_same(claude):
    def tokens(system):
        return claude.messages.count_tokens(model="pilot", messages=HELLO, system=system).input_tokens
    blocks = [{"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}},
              {"type": "text", "text": "Two."}]
    assert tokens(blocks) == tokens("One.\n\nTwo.") > tokens("One.")


def test_the_line_that_names_the_clients_build_is_not_shown_to_the_model(claude):
    def tokens(line):
        return claude.messages.count_tokens(model="pilot", messages=HELLO, system=[
            {"type": "text", "text": line}, {"type": "text", "text": "Two."}]).input_tokens
    billing = "x-anthropic-billing-header: cc_version=2.1; cch=00000;"
    bare = claude.messages.count_tokens(model="pilot", messages=HELLO, system="Two.").input_tokens
    assert tokens(billing) == bare < tokens("One.")


def test_an_assistant_at_the_end_is_continued(claude):
    whole = ask(claude, thinking=OFF).content[0].text
    start = whole[:len(whole) // 2].rstrip()
    message = ask(claude, HELLO + [{"role": "assistant", "content": start}], thinking=OFF)
    assert start + message.content[0].text == whole
    thinks = ask(claude, HELLO + [{"role": "assistant", "content": start}])
    assert texts(thinks) == texts(message)  # its thinking is over


# ---- tools


@pytest.mark.parametrize("thinking", [OFF, {"type": "adaptive"}])
def test_a_call_is_a_block_whose_input_is_an_object(claude, thinking):
    message = ask(claude, OSLO, tools=[WEATHER], thinking=thinking)
    assert calls_of(message) == [("get_weather", {"city": "Oslo"})]
    assert message.stop_reason == "tool_use" and message.content[-1].id.startswith("toolu_")


def test_calls_in_parallel_or_only_one(claude):
    both = ask(claude, BOTH, tools=[WEATHER], thinking=OFF)
    assert [city["city"] for _, city in calls_of(both)] == ["Oslo", "Rome"]
    one = ask(claude, BOTH, tools=[WEATHER], thinking=OFF,
              tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert len(calls_of(one)) == 1


def test_the_choice_of_the_tool_can_be_the_clients(claude):
    assert calls_of(ask(claude, OSLO, tools=[WEATHER], thinking=OFF, tool_choice={"type": "none"})) == []
    for thinking in ({}, {"thinking": OFF}):  # who says nothing of thinking gets the call
        assert calls_of(ask(claude, tools=[WEATHER], tool_choice={"type": "any"}, **thinking))
        named = ask(claude, OSLO, tools=[WEATHER, TIME], **thinking,
                    tool_choice={"type": "tool", "name": "get_time"})
        assert calls_of(named)[0][0] == "get_time"
    for choice in ({"type": "any"}, {"type": "tool", "name": "get_time"}):
        thought = ask(claude, tools=[WEATHER, TIME], thinking={"type": "adaptive"}, tool_choice=choice)
        assert thought.content[0].type == "thinking" and calls_of(thought), "the call comes behind the thinking"
        assert choice["type"] == "any" or {name for name, _ in calls_of(thought)} == {"get_time"}


def test_a_conversation_with_its_own_blocks_goes_on(claude):
    for thinking in (OFF, {"type": "adaptive"}):
        first = ask(claude, BOTH, tools=[WEATHER], thinking=thinking)
        calls = [block for block in first.content if block.type == "tool_use"]
        answer = ask(claude, BOTH + [
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result(call.id) for call in calls] +
                [{"type": "text", "text": "Thanks"}]}], tools=[WEATHER], thinking=thinking)
        assert answer.stop_reason in ("end_turn", "tool_use", "max_tokens")


def test_what_the_server_wrote_comes_back_as_the_same_tokens(pilot, claude):
    """The calls are replayed as they were sampled, so the cached prefix reaches past them."""
    first = ask(claude, OSLO, tools=[WEATHER])
    call = first.content[-1]
    count = claude.messages.count_tokens(model="pilot", tools=[WEATHER], messages=OSLO + [
        {"role": "assistant", "content": first.content}, {"role": "user", "content": [result(call.id)]}])
    prompt = first.usage.input_tokens + first.usage.cache_read_input_tokens
    assert count.input_tokens > prompt + first.usage.output_tokens


@pytest.mark.parametrize("tools", [
    [{"type": "web_search_20250305", "name": "web_search"}], [{"type": "web_fetch_20250910", "name": "web_fetch"}]])
def test_server_tools_are_dropped_or_refused_by_option(claude, serve, tools):
    bare = ask(claude, thinking=OFF).usage
    usage = ask(claude, thinking=OFF, tools=tools).usage
    assert usage.input_tokens + usage.cache_read_input_tokens == \
        bare.input_tokens + bare.cache_read_input_tokens
    for choice in ({"type": "any"}, {"type": "tool", "name": tools[0]["name"]}):
        assert ask(claude, tools=tools, tool_choice=choice, max_tokens=4).content
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\].type"):
        ask(client_of(serve("--server-tools", "refuse")), tools=tools)


# ---- streams


def test_the_clients_stream_helper_ends_with_the_same_message(claude):
    more = {"model": "pilot", "max_tokens": 200, "messages": BOTH, "tools": [WEATHER],
            "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**more)
    with claude.messages.stream(**more) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert stream.request_id
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert {"thinking", "signature", "input_json", "content_block_stop", "message_delta"} <= set(kinds)
    assert texts(final) == texts(whole) and calls_of(final) == calls_of(whole)
    assert final.stop_reason == whole.stop_reason
    with claude.messages.stream(model="pilot", max_tokens=50, messages=HELLO, thinking=OFF,
                                extra_body={"temperature": 0}) as stream:
        assert "".join(stream.text_stream) == ask(claude, thinking=OFF, max_tokens=50).content[0].text


def post(server, path, body, headers=()):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", **dict(headers)})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def join(text):
    """The message of a stream; checks frames and the order of events."""
    frames = [f for f in text.split("\n\n") if f and not f.startswith(":")]
    message, blocks, closed, last = None, [], True, None
    for frame in frames:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        last = event["type"]
        assert name == "event: " + last
        if last == "message_start":
            assert message is None and event["message"]["content"] == []
            message = event["message"]
        elif last == "content_block_start":
            assert closed and event["index"] == len(blocks)
            blocks.append(event["content_block"])
            closed, pieces = False, ""
        elif last == "content_block_delta":
            assert not closed and event["index"] == len(blocks) - 1
            delta, block = event["delta"], blocks[-1]
            if delta["type"] == "input_json_delta":
                pieces += delta["partial_json"]
                assert block["type"] == "tool_use"
            else:
                key = delta["type"].removesuffix("_delta")
                assert key in block and delta[key]
                block[key] += delta[key]
        elif last == "content_block_stop":
            assert not closed and event["index"] == len(blocks) - 1
            closed = True
            if pieces:
                blocks[-1]["cut"] = pieces
        elif last == "message_delta":
            message.update(event["delta"])
            message["usage"].update(event["usage"])
        else:
            assert last in ("ping", "message_stop")
    assert last == "message_stop" and closed
    message["content"] = blocks
    return message


def comparable(message):
    blocks = []
    for block in message["content"]:
        block = {key: block[key] for key in block if key not in ("id", "signature")}
        cut = block.pop("cut", None)
        if cut is not None:
            try:
                block["input"] = json.loads(cut)
            except ValueError:  # what had arrived whole is all that the message in one piece has
                assert message["stop_reason"] == "max_tokens"
                block["input"] = from_json(cut.encode(), partial_mode=True)
        blocks.append(block)
    usage = {key: message["usage"][key] for key in ("output_tokens", "output_tokens_details")}
    usage["prompt"] = message["usage"]["input_tokens"] + message["usage"]["cache_read_input_tokens"]
    return blocks, message["stop_reason"], message["stop_sequence"], usage


def random_body(dice):
    body = {"model": "pilot", "max_tokens": dice.randint(1, 90), "seed": dice.randrange(1 << 40),
            "temperature": dice.choice([0, 0.5, 1, 1.5]), "messages": dice.choice([HELLO, OSLO, BOTH]),
            "thinking": {"type": dice.choice(["enabled", "disabled"])}}
    if dice.random() < 0.6:
        body["tools"] = [WEATHER, TIME]
        if body["thinking"] == OFF and dice.random() < 0.3:
            body["tool_choice"] = {"type": "any", "disable_parallel_tool_use": dice.random() < 0.5}
    if dice.random() < 0.4:
        body["stop_sequences"] = dice.sample(["e", "the", ".", "zz"], dice.randint(1, 2))
    return body


def test_streams_of_random_requests_equal_their_answers(pilot):
    dice, reasons = random.Random(20260901), set()
    for _ in range(PAIRS):
        body = random_body(dice)
        whole = json.loads(post(pilot, "/v1/messages", body))
        joined = join(post(pilot, "/v1/messages", {**body, "stream": True}))
        assert comparable(joined) == comparable(whole), body
        reasons.add(whole["stop_reason"])
    assert {"end_turn", "max_tokens", "stop_sequence"} <= reasons


def test_a_silent_stream_is_kept_alive_by_pings(serve):
    server = serve("--keep-alive", "200ms", script=[{"step_us": 2000000, "generate": 3}])
    text = post(server, "/v1/messages", {"max_tokens": 3, "messages": HELLO, "stream": True})
    assert text.count('event: ping\ndata: {"type":"ping"}\n\n') > 3 and ": keep-alive" not in text
    assert join(text)["usage"]["output_tokens"] == 3


def test_an_engine_that_fails_is_an_error_in_these_clients_words(serve):
    client = client_of(serve(script=[{"prompt_has": [], "tokens": [35] * 5, "finish": "failed"}]))
    with pytest.raises(anthropic.APIStatusError) as failed:
        ask(client)
    assert failed.value.status_code == 503 and failed.value.body["error"]["type"] == "api_error"
    with pytest.raises(anthropic.APIStatusError) as failed:
        list(ask(client, stream=True))
    assert failed.value.body["error"]["type"] == "api_error"


def test_an_answer_that_was_cut_short_is_an_error_that_clients_retry(serve):
    client = client_of(serve(script=[{"step_us": 20000, "generate": 100000}]))
    timeout = {"extra_headers": {"X-Request-Timeout": "0.5"}, "max_tokens": 1000}
    with pytest.raises(anthropic.APIStatusError) as cut:
        ask(client, **timeout)
    assert cut.value.status_code in (503, 529)
    with pytest.raises(anthropic.APIStatusError) as cut:
        list(ask(client, stream=True, **timeout))
    assert cut.value.body["error"]["type"] == "overloaded_error"


# ---- counting


def test_count_tokens_is_the_prompt_of_the_message(claude):
    for more in ({}, {"tools": [WEATHER]}, {"system": "Be brief."}, {"thinking": OFF}):
        count = claude.messages.count_tokens(model="pilot", messages=OSLO, **more)
        usage = ask(claude, OSLO, max_tokens=1, **more).usage
        assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_what_the_cache_had_is_counted_apart(serve):
    client = client_of(serve(script=[{"cached": 4, "generate": 3}]))
    total = client.messages.count_tokens(model="pilot", messages=OSLO).input_tokens
    usage = ask(client, OSLO).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (total - 4, 4)
    first = next(event for event in ask(client, OSLO, stream=True) if event.type == "message_start")
    assert (first.message.usage.input_tokens, first.message.usage.cache_read_input_tokens) == (total - 4, 4)


# ---- refusals


@pytest.mark.parametrize("more, field", [
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": None}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
     "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
     "messages[0].content[0].source"),
    ({"messages": [{"role": "user", "content": [use("a", "Oslo")]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [result("a")]}]}, "messages[0].content[0].tool_use_id"),
    ({"messages": OSLO + [{"role": "assistant", "content": [use("a", "Oslo")]}] + HELLO},
     "messages[2].content"),
    ({"messages": OSLO + [{"role": "assistant", "content": [use("a", "Oslo"), use("b", "Rome")]},
                          {"role": "user", "content": [result("a")]}]}, "messages[2].content"),
    ({"messages": OSLO + [{"role": "assistant", "content": [use("a", "Oslo")]},
                          {"role": "user", "content": [result("a"), result("a")]}]},
     "messages[2].content[1].tool_use_id"),
    ({"messages": OSLO + [{"role": "assistant", "content": [use("a", "Oslo"), use("a", "Rome")]}]},
     "messages[1].content[1].id"),
    ({"messages": OSLO + [{"role": "assistant", "content": [use("a", "Oslo")]}]}, "messages"),
    ({"messages": OSLO + [{"role": "assistant", "content": [use(str(i), "Oslo") for i in range(1025)]}]},
     "messages[1].content[1024]"),
    ({"stop_sequences": [""]}, "stop_sequences"),
    ({"stop_sequences": ["a"] * 17}, "stop_sequences"),
    ({"temperature": 3}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"thinking": {"type": "sometimes"}}, "thinking.type"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "output_config.format.schema"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools[0].name"),
    ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
    ({"tools": [{"name": "a", "input_schema": None}]}, "tools[0].input_schema"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name"),
    ({"metadata": {"user_id": "x" * 513}}, "metadata.user_id"),
    ({"n": 2}, "n"),
])
def test_a_wrong_field_is_named_in_the_clients_own_error(scripted, more, field):
    body = {"model": "pilot", "max_tokens": 8, "messages": HELLO, **more}
    client = client_of(scripted)
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.post("/v1/messages", body=body, cast_to=object)
    error = refused.value.body
    assert set(error) == {"type", "error", "request_id"} and error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"].startswith(field + ":")
    assert error["request_id"] == refused.value.request_id
    assert refused.value.response.headers["x-should-retry"] == "false"


def status_of(server, path, body, headers=()):
    with socket.create_connection(server.address) as connection:
        head = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}",
                *(f"{name}: {value}" for name, value in headers)]
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_every_refusal_has_the_shape_that_these_clients_read(serve, tmp_path):
    keys = tmp_path / "keys"
    [secret] = make_file(keys, "acme")
    server = serve("--keys", str(keys))
    body = json.dumps({"model": "pilot", "max_tokens": 4, "messages": HELLO}).encode()
    key = [("x-api-key", secret), ("anthropic-version", "2023-06-01")]
    cases = [
        ("/v1/messages", body, [("Content-Type", "application/json")], 401, "authentication_error"),
        ("/v1/messages", body, [("x-api-key", "sk-wrong")], 401, "authentication_error"),
        ("/v1/messages", b"{", key, 400, "invalid_request_error"),
        ("/v1/messages", body, key + [("Content-Type", "text/plain")], 415, "invalid_request_error"),
        ("/anthropic/v1/nothing", body, key, 404, "not_found_error"),
        ("/anthropic/v1/messages/count_tokens", b"[]", key, 400, "invalid_request_error"),
    ]
    for path, sent, headers, status, kind in cases:
        got, error = status_of(server, path, sent, headers)
        assert (got, error["type"], error["error"]["type"]) == (status, "error", kind), (path, error)
        assert error["request_id"]
    for path in ("/v1/messages", "/anthropic/v1/messages", "/messages/", "/anthropic/messages"):
        assert status_of(server, path, body, key)[0] == 200
    bearer = anthropic.Anthropic(base_url=server.url + "/anthropic", auth_token=secret)
    assert ask(bearer, max_tokens=4).content
