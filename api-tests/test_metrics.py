"""/metrics counts what happened, in a format that scrapers read; and every request has one log line."""

import re

from raw import Raw, chat, post

CHAT = "/v1/chat/completions"
LINE = re.compile(r'^[a-z_:]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? [-+0-9.eInfNa]+$')


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
