"""Many connections at once, more than there are descriptors for, and thousands that leave: afterwards the
daemon is as it was.

CROWD says how many connections stand idle (10000), CANCELS how many requests are cancelled (2000).
"""

import json
import os
import pathlib
import random
import resource
import socket
import threading
import time

import pytest

import test_disconnect
from conftest import FATHOMD
from raw import Raw, chat, post
from waiting import wait_until

CROWD = int(os.environ.get("CROWD", "10000"))
CANCELS = int(os.environ.get("CANCELS", "2000"))
SANITIZED = any(mark in pathlib.Path(FATHOMD).read_bytes() for mark in (b"__asan_init", b"__tsan_init"))
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
CHAT = "/v1/chat/completions"


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def resident_mb(server):
    lines = pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def cpu_seconds(server):
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def many_files():
    """As many open files as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections_disturb_nobody(serve, many_files):
    if many_files < CROWD + 600:
        pytest.skip(f"{CROWD} connections want {CROWD + 600} open files here and there, the limit is {many_files}")
    server = serve("--connections", str(CROWD + 100))
    before, memory = descriptors(server), resident_mb(server)
    crowd = []
    try:
        for number in range(CROWD):
            crowd.append(socket.create_connection(server.address))
            if number % 2:  # half of them have asked before
                crowd[-1].sendall(HEALTH)
        for each in crowd[1::2]:
            assert each.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: descriptors(server) >= before + CROWD)
        with Raw(server) as raw:
            used = cpu_seconds(server)
            for _ in range(100):
                raw.say(HEALTH)
                assert raw.answer()[0] == 200
            assert SANITIZED or cpu_seconds(server) - used < 0.5
            raw.say(post(CHAT, chat(max_tokens=2)))
            assert raw.answer()[0] == 200
        assert server.metrics()["connections"] >= CROWD
        assert SANITIZED or resident_mb(server) - memory < 200
        used = cpu_seconds(server)
        time.sleep(0.5)
        assert SANITIZED or cpu_seconds(server) - used < 0.25, "idle connections cost no CPU"
    finally:
        for each in crowd:
            each.close()
    wait_until(lambda: descriptors(server) <= before + 2)
    assert json.loads(server.get("/health")) == {"status": "ok"}


def test_without_descriptors_the_open_connections_are_served_and_later_all(serve):
    server = serve()
    with Raw(server) as first:
        first.say(post(CHAT, chat(max_tokens=1)))  # whatever is opened once is open now
        assert first.answer()[0] == 200
        own = descriptors(server)
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (own + 20, limits[1]))
        crowd = [socket.create_connection(server.address) for _ in range(60)]
        wait_until(lambda: descriptors(server) >= own + 19)
        for _ in range(50):
            first.say(HEALTH)
            assert first.answer()[0] == 200
            first.say(post(CHAT, chat(max_tokens=2, stream=True)))
            assert first.answer()[2].endswith(b"data: [DONE]\n\n")
        used = cpu_seconds(server)
        time.sleep(1)
        assert cpu_seconds(server) - used < 0.5, "it spins on a socket that it cannot accept"
        for each in crowd:
            each.close()
    with Raw(server) as later:
        later.say(HEALTH)
        assert later.answer()[0] == 200
    wait_until(lambda: descriptors(server) <= own)


def test_random_cancelled_requests_leave_the_daemon_as_it_was(serve):
    server = serve(script=[{"step_us": 500, "generate": 1000000, "prefill_per_step": 512}])
    threads = 8

    def cancel_some(count, seed):
        def some(number):
            for i in range(count // threads):
                test_disconnect.hang_up(server, seed * 1000000 + number * 100000 + i)
        pool = [threading.Thread(target=some, args=(number,)) for number in range(threads)]
        for each in pool:
            each.start()
        for each in pool:
            each.join()
        server.wait_metrics(connections=lambda count: count <= 1)
        server.wait_idle()

    cancel_some(800, 1)  # buffers and arenas have their size now
    base = descriptors(server), resident_mb(server), server.metrics()
    cancel_some(CANCELS, 2)
    now = server.wait_idle()
    assert descriptors(server) <= base[0] + 1
    if not SANITIZED:  # which keep what was freed for a while
        assert resident_mb(server) <= base[1] * 1.1 + 8, (base[1], resident_mb(server))
    for name in test_disconnect.NAMES:
        assert now[name] == base[2][name] == 0
    gone = 'requests_total{outcome="client_gone"}'
    assert now[gone] - base[2][gone] == CANCELS // threads * threads


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_reader_of_few_bytes_at_a_time_gets_them_all(serve, size):
    server = serve(script=[{"step_us": 200, "generate": 400}])
    with Raw(server, receive_buffer=2048) as raw:
        raw.say(post(CHAT, chat(max_tokens=200, stream=True, seed=3)))
        dice, data = random.Random(size), b""
        while not data.endswith(b"0\r\n\r\n"):
            more = raw.socket.recv(size)
            assert more
            data += more
            if dice.random() < 0.002:
                time.sleep(0.01)
    assert b"data: [DONE]" in data
    server.wait_idle()
