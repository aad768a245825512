"""/metrics counts what happened, in a format that scrapers read; and every request has one log line."""

import re

import pytest

from raw import Raw, chat, post

CHAT = "/v1/chat/completions"
LINE = re.compile(r'^[a-z_:][a-z0-9_:]*(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? [-+0-9.eInfNa]+$')


def test_every_line_is_in_the_text_format(scripted):
    text = scripted.get("/metrics")
    typed = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed, f"{name} is described twice"
            typed.add(name)
        elif not line.startswith("#"):
            assert LINE.match(line), line
            name = re.match(r"[a-z_:]+", line)[0]
            assert name in typed or re.sub("_(bucket|sum|count)$", "", name) in typed, line
    assert text.endswith("\n") and "fathom_build_info{" in text


def test_requests_tokens_and_times_are_counted(serve):
    server = serve(script=[{"step_us": 500, "generate": 1000}])
    before = server.metrics()
    for i in range(5):
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(f"request {i}", max_tokens=20, stream=i % 2 == 0)))
            assert raw.answer()[0] == 200
    with Raw(server) as raw:
        raw.say(post(CHAT, b"{"))
        assert raw.answer()[0] == 400
    server.wait_idle()
    now = server.metrics()

    def grown(name):
        return now[name] - before.get(name, 0)

    assert grown('requests_total{outcome="length"}') == 5
    assert grown('requests_total{outcome="bad_request"}') == 1
    assert grown("time_to_first_token_seconds_count") == 5
    assert grown("inter_token_seconds_count") == 5 * 19
    assert grown("output_tokens_sum") == 100
    assert grown("request_seconds_count") == 6
    assert grown("generation_tokens_total") == 100
    assert grown("prompt_tokens_total") == grown("prompt_tokens_sum") > 0


def test_each_request_has_one_line_without_its_words(serve):
    server = serve()
    secret = "the quick brown canary"
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(secret, max_tokens=3), "X-Request-Id: mine-1", "Authorization: Bearer hush"))
        assert raw.answer()[0] == 200
        raw.say(post(CHAT, b'{"messages": "' + secret.encode() + b'"}', "X-Request-Id: mine-2"))
        assert raw.answer()[0] == 400
        raw.say(b"GET /health HTTP/1.1\r\nHost: a\r\nX-Request-Id: probe\r\n\r\n")
        assert raw.answer()[0] == 200
    server.stop()
    lines = {event["request_id"]: event for event in server.requests_logged()}
    assert set(lines) == {"mine-1", "mine-2"}  # a health check is a debug line
    first = lines["mine-1"]
    assert (first["status"], first["outcome"], first["output_tokens"]) == (200, "length", 3)
    assert first["peer"] == "127.0.0.1" and first["t_total"] > 0 and first["prompt_tokens"] > 0
    assert lines["mine-2"]["status"] == 400
    assert not any("canary" in line or "hush" in line for line in server.log)


def test_the_engines_own_steps_are_counted(serve):
    server = serve("--backend", "cpu")
    server.post("/v1/chat/completions", chat("hello", max_tokens=8, temperature=0, ignore_eos=True))
    now = server.wait_idle()
    assert now["engine_steps_total"] == now["engine_step_seconds_count"] == 8
    assert now["engine_step_tokens_total"] == now["prompt_tokens_total"] + 7
    assert now["prefill_seconds_sum"] > 0 and now["decode_seconds_sum"] > 0
    parts = [now[name + "_seconds_sum"] for name in ("parse", "queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(now["request_seconds_sum"], rel=0.2)


def test_calls_that_come_back_are_counted(serve):
    server = serve("--backend", "cpu")
    weather = {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
    body = chat("What is the weather in Oslo?", temperature=0, tools=[weather], thinking=False)
    message = server.post("/v1/chat/completions", body)["choices"][0]["message"]
    for call_id in (message["tool_calls"][0]["id"], "call_of_somebody_else"):
        message["tool_calls"][0]["id"] = call_id
        turn = [message, {"role": "tool", "tool_call_id": call_id, "content": "4"}]
        server.post("/v1/chat/completions", {**body, "messages": body["messages"] + turn})
    now = server.wait_idle()
    assert now["tool_memory_blocks"] == 1 and now["tool_memory_bytes"] > 50
    assert now['tool_memory_lookups_total{result="found"}'] == 1
    assert now['tool_memory_lookups_total{result="missed"}'] == 1


def test_dashboards_made_for_vllm_find_their_names(serve):
    server = serve("--metrics-compat", "vllm")
    server.post("/v1/chat/completions", chat("hello", max_tokens=8))
    text, typed = server.get("/metrics"), set()
    for line in text.splitlines():
        assert line.startswith("# ") or LINE.match(line), line
        if line.startswith("# TYPE "):
            assert line.split()[2] not in typed, "each name has one head"
            typed.add(line.split()[2])
    assert 'vllm:request_success_total{model_name="pilot",finished_reason="length"} 1\n' in text
    assert 'vllm:generation_tokens_total{model_name="pilot"} 8\n' in text
    assert 'vllm:num_requests_running{model_name="pilot"} 0\n' in text
    assert 'vllm:e2e_request_latency_seconds_count{model_name="pilot"} 1\n' in text
    assert "vllm:" not in serve().get("/metrics")
