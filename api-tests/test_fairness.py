"""Tenants and users beside each other on the real engine: nobody's places are in another's way."""

import json

import pytest

from keyfile import make_file
from raw import Raw, chat, post
from waiting import wait_until

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("by", ["tenant", "user"])
def test_one_is_answered_while_another_holds_every_place(serve, tmp_path, by):
    names, options, user = ("greedy", "polite"), (), {"greedy": {}, "polite": {}}
    headers = {name: () for name in names}
    if by == "tenant":
        keys = make_file(tmp_path / "keys", *names)
        options = ("--keys", str(tmp_path / "keys"))
        headers = {name: (f"Authorization: Bearer {key}",) for name, key in zip(names, keys)}
    else:
        user = {name: {"user": name} for name in names}
    server = serve("--backend", "cpu", "--context", "8192", "--max-seqs", "4", *options)
    endless = chat("count " * 50, max_tokens=7000, stream=True, temperature=2, ignore_eos=True,
                   **user["greedy"])
    raws = [Raw(server) for _ in range(12)]
    for raw in raws:
        raw.say(post(CHAT, endless, *headers["greedy"]))
    wait_until(lambda: sum(raw.readable(0) for raw in raws) >= 4)
    if by == "user":
        server.wait_metrics(requests_running=4, requests_waiting=8)
    for _ in range(5):
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(max_tokens=4, **user["polite"]), *headers["polite"]))
            status, _, body = raw.answer()
        assert status == 200 and json.loads(body)["usage"]["completion_tokens"] >= 1, body
    if by == "user":
        now = server.metrics()
        assert now["requests_running"] + now["requests_waiting"] == 12
        assert now['preemptions_total{reason="share"}'] >= 1
    for raw in raws:
        while raw.readable(0):
            assert raw.more()
        assert b"[DONE]" not in raw.buffer, "its places were free"
        raw.socket.close()
