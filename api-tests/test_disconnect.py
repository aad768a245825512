"""A client that hangs up frees everything it held, at once, however often."""

import os
import random
import threading
import time

from raw import Raw, chat, post

CHAT = "/v1/chat/completions"
NAMES = ("requests_running", "requests_waiting", "kv_blocks_used", "body_bytes")
THREADS = 8
EACH = int(os.environ.get("HANG_UPS", "1000")) // THREADS  # fewer under sanitizers


def hang_up(server, seed):
    chance = random.Random(seed)
    stream = chance.random() < 0.7
    said = "word " * chance.choice([1, 10, 2000])
    path, body = chance.choice([
        (CHAT, chat(said, max_tokens=100000, stream=stream)),
        ("/v1/messages", {"messages": [{"role": "user", "content": said}], "max_tokens": 100000, "stream": stream}),
        ("/v1/responses", {"input": said, "max_output_tokens": 100000, "stream": stream})])
    with Raw(server) as raw:
        raw.say(post(path, body))
        if stream and chance.random() < 0.6:
            raw.until(b"data: ")
        if chance.random() < 0.5:
            time.sleep(chance.random() * 0.01)


def test_a_thousand_hang_ups_leave_nothing_behind(serve, tmp_path):
    server = serve(script=[{"step_us": 500, "generate": 1000000, "prefill_per_step": 512}])
    pid = server.process.pid
    hang_up(server, 0)
    server.wait_idle()
    descriptors = count_descriptors(pid)

    def worker(number):
        for i in range(EACH):
            hang_up(server, number * 1000 + i)

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.wait_idle()
    now = server.wait_metrics(connections=lambda count: count <= 1)
    assert all(now[name] == 0 for name in NAMES), {name: now[name] for name in NAMES}
    assert now['requests_total{outcome="client_gone"}'] == 1 + THREADS * EACH
    assert count_descriptors(pid) <= descriptors + 1
    assert len(server.requests_logged()) == 1 + THREADS * EACH  # one line each


def count_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_hang_up_is_noticed_within_a_few_steps(serve):
    server = serve(script=[{"step_us": 100000, "generate": 1000000}])
    for _ in range(5):
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(max_tokens=100000, stream=True)))
            raw.until(b"data: ")
        server.wait_idle()
    # END comes with the step after the cancel: 2 steps of 100 ms, and the machine's own delays
    metrics = server.metrics()
    assert metrics["cancel_to_free_seconds_count"] == 5
    assert metrics["cancel_to_free_seconds_sum"] / 5 < 0.5


def test_a_hundred_streams_in_prefill_are_all_cancelled(serve):
    server = serve("--max-seqs", "200",
                   script=[{"step_us": 5000, "generate": 1000000, "prefill_per_step": 1}])
    raws = [Raw(server) for _ in range(100)]
    for raw in raws:
        raw.say(post(CHAT, chat("word " * 5000, max_tokens=100000, stream=True)))
    server.wait_metrics(requests_running=100)
    for raw in raws:
        raw.socket.close()
    server.wait_idle()


def test_one_who_leaves_does_not_disturb_the_others(serve):
    server = serve(script=[{"step_us": 1000, "generate": 300}])
    with Raw(server) as stays:
        stays.say(post(CHAT, chat(max_tokens=300, stream=True)))
        stays.until(b"data: ")
        for seed in range(30):
            hang_up(server, seed)
        text = stays.until(b"[DONE]").decode()
        assert text.count('"finish_reason":"') == 1
    server.wait_idle()
