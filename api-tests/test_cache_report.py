"""What an answer tells of the prefix cache: header, usage, log, metrics. The scripted engine says what
it knew; test_cache.py asks a real one."""

import json

from raw import Raw, chat, post

CHAT = "/v1/chat/completions"
ENDLESS = {"prompt_has": [], "tokens": [35] * 100000}
LONG = "tell me a long story about many things " * 4


def ask(server, **fields):
    return server.client().chat.completions.with_raw_response.create(
        model="pilot", messages=[{"role": "user", "content": LONG}], **fields)


def test_header_usage_and_log_agree(serve):
    server = serve(script=[{"cached": 20}])
    answer = ask(server)
    usage = answer.parse().usage
    assert answer.headers["x-fathom-cache"] == "hit=20 tier=host miss=unknown@20"
    assert usage.prompt_tokens_details.cached_tokens == 20
    assert usage.model_extra["prompt_cache_hit_tokens"] == 20
    assert usage.model_extra["prompt_cache_miss_tokens"] == usage.prompt_tokens - 20
    server.wait_idle()
    line = server.requests_logged()[-1]
    assert line["cached_tokens"] == 20 and line["cache_tier"] == "host"
    assert line["cache_miss"] == "unknown" and line["cache_miss_at"] == 20


def test_a_stream_has_the_header_and_the_usage(serve):
    server = serve(script=[{"cached": 20}])
    answer = ask(server, stream=True, stream_options={"include_usage": True})
    assert answer.headers["x-fathom-cache"] == "hit=20 tier=host miss=unknown@20"
    usage = [chunk.usage for chunk in answer.parse() if chunk.usage][-1]
    assert usage.prompt_tokens_details.cached_tokens == 20


def test_choices_are_forks_and_their_prompt_counts_once(serve):
    server = serve("--max-n", "4", script=[{"cached": 20}])
    answer = ask(server, n=4, max_tokens=3)
    usage = answer.parse().usage
    assert answer.headers["x-fathom-cache"] == "hit=20 tier=host miss=unknown@20"
    assert usage.prompt_tokens_details.cached_tokens == 20
    server.wait_idle()
    line = server.requests_logged()[-1]  # forks know all of the prompt but its last token
    assert line["cached_tokens"] == 20 + 3 * (usage.prompt_tokens - 1)


def test_two_prompts_with_choices_fork_their_own(serve):
    server = serve("--max-n", "2")
    answer = server.client().completions.create(model="pilot", prompt=["one " * 9, "two " * 20],
                                                n=2, max_tokens=2)
    server.wait_idle()
    assert len(answer.choices) == 4
    assert server.requests_logged()[-1]["cached_tokens"] == answer.usage.prompt_tokens - 2
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_a_request_may_do_without(serve):
    server = serve(script=[{"cached": 20}])
    for field in ({"no_cache": True}, {"cache_prompt": False}):
        answer = ask(server, extra_body=field)
        assert answer.headers["x-fathom-cache"] == "hit=0 miss=off"
    assert ask(server, extra_body={"no_store": True}).headers["x-fathom-cache"].startswith("hit=20 ")


def test_an_echo_with_logprobs_is_computed_whole(serve):
    server = serve(script=[{"cached": 4}])
    create = server.client().completions.with_raw_response.create
    answer = create(model="pilot", prompt="one two three four five", max_tokens=2, echo=True,
                    logprobs=1)
    assert answer.headers["x-fathom-cache"] == "hit=0 miss=off"


def test_a_stream_that_waited_long_is_told_in_a_comment(serve):
    server = serve("--max-seqs", "1", script=[ENDLESS, {"cached": 3}])
    with Raw(server) as first, Raw(server) as second:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        first.until(b"data: ")
        second.say(post(CHAT, chat(max_tokens=5, stream=True)))
        head = second.until(b"data: ")
        assert b"x-fathom-cache" not in head.lower()
        first.socket.close()
        second.until(b": x-fathom-cache: hit=3 tier=host miss=unknown@3\n\n")
        second.until(b"[DONE]")


def test_refusals_and_other_answers_have_no_such_header(scripted):
    with Raw(scripted) as raw:
        for data in (post(CHAT, json.dumps({"messages": []}).encode()),
                     b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"):
            raw.say(data)
            assert "x-fathom-cache" not in raw.answer()[1]


def test_every_number_of_the_cache_is_there_from_the_start(serve):
    metrics = serve().metrics()
    for name in ('cache_hit_tokens_total{tier="device"}', 'cache_misses_total{reason="unknown"}',
                 'cache_bytes{object="g",tier="host"}', 'cache_disk_state{state="on"}',
                 "cache_differing_total", "cache_disk_recovery_seconds"):
        assert metrics[name] == 0, name
