"""The clients that people have: OpenAI's and Anthropic's own packages, used as their authors mean them to be:
helpers that stream and parse, tools, errors, retries, timeouts, asynchronous, raw and with other options."""

import asyncio
import json
import time

import anthropic
import openai
import pydantic
import pytest

from raw import Raw, chat, post
from waiting import PATIENCE

CHAT = "/v1/chat/completions"
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
HELLO = [{"role": "user", "content": "Hello"}]
OFF = {"thinking": {"type": "disabled"}}
ENDLESS = {"step_us": 2000, "generate": 1000000}
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "The city"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "get weather", "parameters": CITY}}
FUNCTION = {"type": "function", "name": "get_weather", "description": "get weather", "parameters": CITY}
TOOL = {"name": "get_weather", "description": "get weather", "input_schema": CITY}


class get_weather(pydantic.BaseModel):
    """get weather"""

    city: str = pydantic.Field(description="The city")


class Capital(pydantic.BaseModel):
    country: str
    capital: str


@pytest.fixture
def claude(pilot):
    return anthropic.Anthropic(base_url=pilot.url, api_key="none", max_retries=0)


def claude_of(server, **more):
    return anthropic.Anthropic(base_url=server.url, api_key="none", **{"max_retries": 0, **more})


# How each protocol is asked for one short answer: (client of a server, the call). Every row goes through every
# test below that takes `ask`.
def ask_chat(client, **more):
    return client.chat.completions.create(model="pilot", messages=HELLO, max_tokens=8, **more)


def ask_completion(client, **more):
    return client.completions.create(model="pilot", prompt="Hello", max_tokens=8, **more)


def ask_response(client, **more):
    return client.responses.create(model="pilot", input="Hello", max_output_tokens=16, **more)


def ask_message(client, **more):
    return client.messages.create(model="pilot", messages=HELLO, max_tokens=8, **more)


OPENAI = [ask_chat, ask_completion, ask_response]
ALL = [*OPENAI, ask_message]
each = pytest.mark.parametrize("ask", ALL)


def client_for(ask, server, asynchronous=False, **more):
    package, base = (anthropic, server.url) if ask is ask_message else (openai, server.url + "/v1")
    name = ("Async" if asynchronous else "") + ("Anthropic" if package is anthropic else "OpenAI")
    return getattr(package, name)(base_url=base, api_key="none", **{"max_retries": 0, **more})


def package_of(ask):
    return anthropic if ask is ask_message else openai


def field_of(ask):
    """A value that this protocol refuses."""
    return {"extra_body": {"temperature": 9}} if ask is ask_message else {"temperature": 9}


# ---- helpers that stream and parse


def test_the_chat_stream_helper_tells_events_and_the_whole(client):
    with client.chat.completions.stream(model="pilot", messages=HELLO, temperature=0, extra_body=OFF,
                                        stream_options={"include_usage": True}) as stream:
        events = list(stream)
        whole = stream.get_final_completion()
    kinds = {event.type for event in events}
    assert {"chunk", "content.delta", "content.done"} <= kinds
    text = "".join(event.delta for event in events if event.type == "content.delta")
    assert text == whole.choices[0].message.content and whole.usage.completion_tokens > 0
    plain = client.chat.completions.create(model="pilot", messages=HELLO, temperature=0, extra_body=OFF)
    assert plain.choices[0].message.content == text


def test_the_chat_stream_helper_parses_the_arguments_of_a_tool(client):
    with client.chat.completions.stream(model="pilot", messages=OSLO, temperature=0, extra_body=OFF,
                                        tools=[openai.pydantic_function_tool(get_weather)]) as stream:
        events = list(stream)
        whole = stream.get_final_completion()
    call = whole.choices[0].message.tool_calls[0]
    assert call.function.parsed_arguments == get_weather(city="Oslo")
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert json.loads(done[0].arguments) == {"city": "Oslo"} and whole.choices[0].finish_reason == "tool_calls"


def test_chat_parse_gives_the_object_that_was_asked_for(client):
    question = [{"role": "user", "content": "What is the capital of France? Answer in JSON."}]
    for thinking in (OFF, {}):
        answer = client.chat.completions.parse(model="pilot", messages=question, temperature=0, max_tokens=300,
                                               response_format=Capital, extra_body=thinking)
        assert isinstance(answer.choices[0].message.parsed, Capital)
    with client.chat.completions.stream(model="pilot", messages=question, temperature=0, extra_body=OFF,
                                        response_format=Capital) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Capital)


def test_chat_parse_gives_the_arguments_that_were_declared(client):
    answer = client.chat.completions.parse(model="pilot", messages=OSLO, temperature=0, extra_body=OFF,
                                           tools=[openai.pydantic_function_tool(get_weather)])
    assert answer.choices[0].message.tool_calls[0].function.parsed_arguments == get_weather(city="Oslo")


def test_parse_says_that_an_answer_was_cut(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="pilot", messages=OSLO, temperature=0, max_tokens=3, extra_body=OFF,
                                      response_format=Capital)


def test_responses_parse_and_stream_give_the_object_that_was_asked_for(client):
    more = {"model": "pilot", "input": "What is the capital of France? Answer in JSON.", "temperature": 0,
            "max_output_tokens": 300, "text_format": Capital, "reasoning": {"effort": "none"}}
    assert isinstance(client.responses.parse(**more).output_parsed, Capital)
    with client.responses.stream(**more) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, Capital)
    assert {"response.created", "response.output_text.delta", "response.output_text.done", "response.completed"} <= kinds


def test_the_responses_stream_helper_parses_the_arguments_of_a_tool(client):
    with client.responses.stream(model="pilot", input=OSLO[0]["content"], temperature=0, reasoning={"effort": "none"},
                                 tools=[openai.pydantic_function_tool(get_weather)]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    call = next(item for item in final.output if item.type == "function_call")
    assert call.parsed_arguments == get_weather(city="Oslo")
    assert "response.function_call_arguments.delta" in kinds and "response.function_call_arguments.done" in kinds


def test_the_messages_stream_helper_gives_text_blocks_and_the_whole(claude):
    with claude.messages.stream(model="pilot", messages=OSLO, max_tokens=200, tools=[TOOL],
                                extra_body={"temperature": 0, **OFF}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert call.input == {"city": "Oslo"} and final.stop_reason == "tool_use" and "input_json" in kinds
    with claude.messages.stream(model="pilot", messages=HELLO, max_tokens=50,
                                extra_body={"temperature": 0, **OFF}) as stream:
        text = "".join(stream.text_stream)
        assert text and text == stream.get_final_text()


def test_anthropics_tool_runner_runs_the_tool_until_there_is_an_answer(claude):
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:  # noqa: F811, the name is the tool's
        """get weather

        Args:
            city: The city
        """
        asked.append(city)
        return "4 degrees"

    runner = claude.beta.messages.tool_runner(model="pilot", messages=OSLO, max_tokens=200, tools=[get_weather],
                                              max_iterations=3, extra_body={"temperature": 0, **OFF})
    final = runner.until_done()
    assert asked and asked[0] == "Oslo" and final.content


# ---- raw answers, other options, iterating by hand


@each
def test_a_raw_answer_has_headers_and_parses(scripted, ask):
    client = client_for(ask, scripted)
    part = getattr(client, {"ask_chat": "chat", "ask_completion": "completions", "ask_response": "responses",
                            "ask_message": "messages"}[ask.__name__])
    part = part.completions if ask is ask_chat else part
    more = {"ask_chat": {"messages": HELLO, "max_tokens": 4}, "ask_completion": {"prompt": "a", "max_tokens": 4},
            "ask_response": {"input": "a", "max_output_tokens": 16},
            "ask_message": {"messages": HELLO, "max_tokens": 4}}[ask.__name__]
    raw = part.with_raw_response.create(model="pilot", **more)
    assert raw.status_code == 200 and raw.headers["x-request-id"] and raw.parse().id
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    with part.with_streaming_response.create(model="pilot", **more) as streamed:
        assert streamed.headers["content-type"] == "application/json" and json.loads(streamed.read())["id"]
    with part.with_streaming_response.create(model="pilot", stream=True, **more) as streamed:
        assert streamed.headers["content-type"] == "text/event-stream"
        assert any(line.startswith("data: ") for line in streamed.iter_lines())


@each
def test_options_of_one_call_are_obeyed(scripted, ask):
    client = client_for(ask, scripted)
    other = client.with_options(timeout=PATIENCE, max_retries=1, default_headers={"X-Request-Id": "of-the-copy"})
    assert ask(other)._request_id == "of-the-copy"
    mine = ask(client, extra_headers={"X-Request-Id": "mine"}, extra_query={"a": "b"}, timeout=PATIENCE)
    assert mine._request_id == "mine"


@each
def test_a_stream_may_be_left_in_the_middle(serve, ask):
    server = serve(script=[ENDLESS])
    more = {"max_output_tokens": 50000} if ask is ask_response else {"max_tokens": 50000}
    names = {"ask_chat": lambda c: c.chat.completions.create(model="pilot", messages=HELLO, stream=True, **more),
             "ask_completion": lambda c: c.completions.create(model="pilot", prompt="a", stream=True, **more),
             "ask_response": lambda c: c.responses.create(model="pilot", input="a", stream=True, **more),
             "ask_message": lambda c: c.messages.create(model="pilot", messages=HELLO, stream=True, **more)}
    with names[ask.__name__](client_for(ask, server)) as stream:
        for number, _ in enumerate(stream):
            if number == 5:
                break
    server.wait_idle()
    assert server.metrics()['requests_total{outcome="client_gone"}'] == 1


@each
def test_the_asynchronous_client_does_the_same(scripted, ask):
    async def session():
        async with client_for(ask, scripted, asynchronous=True) as client:
            answers = await asyncio.gather(*(ask(client, extra_body={"seed": 5}) for _ in range(8)))
            events = [event async for event in await ask(client, stream=True)]
            with pytest.raises(package_of(ask).BadRequestError):
                await ask(client, **field_of(ask))
            return answers, events

    answers, events = asyncio.run(session())
    assert len({answer.id for answer in answers}) == 8 and len(events) >= 3


def test_asynchronous_helpers_stream_and_parse(pilot):
    async def session():
        async with client_for(ask_chat, pilot, asynchronous=True) as client:
            async with client.chat.completions.stream(
                    model="pilot", messages=OSLO, temperature=0, extra_body=OFF,
                    tools=[openai.pydantic_function_tool(get_weather)]) as stream:
                whole = await stream.get_final_completion()
            async with client.responses.stream(model="pilot", input="Hello", reasoning={"effort": "none"},
                                               temperature=0) as stream:
                response = await stream.get_final_response()
        async with client_for(ask_message, pilot, asynchronous=True) as client:
            async with client.messages.stream(model="pilot", messages=HELLO, max_tokens=30, extra_body=OFF) as stream:
                text = await stream.get_final_text()
            count = await client.messages.count_tokens(model="pilot", messages=HELLO)
        return whole, response, text, count

    whole, response, text, count = asyncio.run(session())
    assert whole.choices[0].message.tool_calls[0].function.parsed_arguments == get_weather(city="Oslo")
    assert response.output_text and text and count.input_tokens > 0


# ---- errors


@each
def test_a_refusal_is_the_packages_own_exception_with_all_it_says(scripted, ask):
    client, package = client_for(ask, scripted), package_of(ask)
    with pytest.raises(package.BadRequestError) as refused:
        ask(client, **field_of(ask))
    assert refused.value.status_code == 400 and "temperature" in str(refused.value)
    assert refused.value.request_id and refused.value.response.headers["x-should-retry"] == "false"
    if package is openai:
        assert (refused.value.param, refused.value.code) == ("temperature", "invalid_request_error")
    with pytest.raises(package.NotFoundError):
        client.get("/v1/nothing" if package is anthropic else "/nothing", cast_to=object)


@each
def test_an_engine_that_fails_in_a_stream_is_an_exception(serve, ask):
    server = serve(script=[{"prompt_has": [], "tokens": [35] * 5, "finish": "failed"}])
    if ask is ask_response:
        kinds = [event.type for event in ask(client_for(ask, server), stream=True)]
        assert kinds[-1] in ("response.failed", "error")
        return
    with pytest.raises(package_of(ask).APIError):
        for _ in ask(client_for(ask, server), stream=True):
            pass


# ---- retries


@pytest.fixture
def busy(serve):
    """A server whose queue is full until free() is called."""
    server = serve("--max-seqs", "1", "--queue-length", "1", script=[ENDLESS])
    raws = [Raw(server), Raw(server)]
    raws[0].say(post(CHAT, chat(max_tokens=100000, stream=True)))
    raws[0].until(b"data: ")
    raws[1].say(post(CHAT, chat(max_tokens=100000, stream=True)))
    server.wait_metrics(requests_waiting=1)
    server.free = lambda: [raw.socket.close() for raw in raws]
    yield server
    server.free()


@each
def test_a_full_server_is_asked_again_when_it_said(busy, ask):
    package, said_ms = package_of(ask), []

    def note(response):
        if "retry-after-ms" in response.headers:
            said_ms.append(int(response.headers["retry-after-ms"]))
            busy.free()
    with pytest.raises(package.InternalServerError) as refused:
        ask(client_for(ask, busy))
    assert refused.value.status_code in (503, 529) and refused.value.response.headers["retry-after-ms"]
    start = time.monotonic()
    noting = package.DefaultHttpxClient(event_hooks={"response": [note]})
    assert ask(client_for(ask, busy, max_retries=4, http_client=noting)).id
    assert said_ms and time.monotonic() - start >= 0.9 * said_ms[0] / 1000  # it waited as long as it was told to


@each
def test_what_cannot_succeed_is_asked_once(serve, ask):
    server = serve()
    with pytest.raises(package_of(ask).BadRequestError):
        ask(client_for(ask, server, max_retries=5), **field_of(ask))
    server.stop()
    assert len(server.requests_logged()) == 1


@each
def test_a_deadline_in_the_queue_is_final(serve, ask):
    server = serve("--max-seqs", "1", script=[ENDLESS])
    with Raw(server) as first:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        with pytest.raises(package_of(ask).APIStatusError) as refused:
            ask(client_for(ask, server, max_retries=5), extra_headers={"X-Request-Timeout": "0.2"}, timeout=PATIENCE)
    assert refused.value.status_code == 503 and refused.value.response.headers["x-should-retry"] == "false"
    server.wait_idle()
    assert server.metrics()['requests_total{outcome="deadline"}'] == 1  # not asked again


@each
def test_a_client_that_gives_up_is_told_so_and_the_server_stops_working(serve, ask):
    server = serve(script=[ENDLESS])
    more = {"extra_body": {"max_output_tokens" if ask is ask_response else "max_tokens": 100000}}
    with pytest.raises(package_of(ask).APITimeoutError):
        ask(client_for(ask, server, timeout=1, max_retries=1), **more)
    gone = 'requests_total{outcome="client_gone"}'
    assert server.wait_metrics(**{gone: lambda count: count >= 2})[gone] == 2  # once more by itself
    server.wait_idle()


@each
def test_nobody_there_is_a_connection_error(serve, ask):
    server = serve()
    client = client_for(ask, server)
    assert server.stop() == 0
    with pytest.raises(package_of(ask).APIConnectionError):
        ask(client)


def test_the_models_are_listed_and_one_is_found(scripted):
    client = client_for(ask_chat, scripted)
    listed = client.models.list()
    assert [model.id for model in listed][0] == "pilot"
    assert client.models.retrieve("pilot").id == "pilot"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_input_tokens_are_counted_before_they_are_sent(client):
    counted = client.responses.input_tokens.count(model="pilot", input="Hello")
    assert counted.input_tokens == client.responses.create(model="pilot", input="Hello",
                                                           max_output_tokens=16).usage.input_tokens
