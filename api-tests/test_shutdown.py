"""SIGTERM: what runs finishes, what comes is refused, and the exit code is 0."""

import json
import signal
import socket
import time

import pytest

from raw import Raw, chat, post
from waiting import PATIENCE

CHAT = "/v1/chat/completions"
SLOW = [{"step_us": 10000, "generate": 100}]  # an answer takes a second


def streams(server, count, max_tokens=100):
    raws = [Raw(server) for _ in range(count)]
    for raw in raws:
        raw.say(post(CHAT, chat(max_tokens=max_tokens, stream=True)))
        raw.until(b"data: ")
    return raws


def last_words(raw):
    """The events after the first, as objects; ends with the text [DONE] if that was sent."""
    while raw.more():
        pass
    events = [line[6:] for line in raw.buffer.decode().split("\n") if line.startswith("data: ")]
    return [e if e == "[DONE]" else json.loads(e) for e in events]


def test_twenty_live_streams_all_complete(serve):
    server = serve("--drain-delay", "0s", script=SLOW)
    raws = streams(server, 20)
    server.process.send_signal(signal.SIGTERM)
    for raw in raws:
        events = last_words(raw)
        assert events[-1] == "[DONE]"
        finishes = [c["finish_reason"] for e in events[:-1] for c in e["choices"] if c["finish_reason"]]
        assert finishes in (["stop"], ["length"])
    assert server.ended() == 0


def test_new_work_is_refused_while_draining_and_connections_close(serve):
    server = serve("--drain-delay", "0s", script=[{"step_us": 10000, "generate": 300}])
    idle = Raw(server)
    idle.say(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert idle.answer()[0] == 200
    (running,) = streams(server, 1, max_tokens=300)
    server.process.send_signal(signal.SIGTERM)
    server.wait_said("draining")
    idle.say(post(CHAT, chat(max_tokens=1)))
    status, headers, body = idle.answer()
    assert status == 503 and json.loads(body)["error"]["code"] == "draining"
    assert int(headers["retry-after"]) >= 1 and headers["connection"].lower() == "close"
    with pytest.raises(OSError):
        socket.create_connection(server.address, timeout=2)
    assert last_words(running)[-1] == "[DONE]"
    assert server.ended() == 0


@pytest.mark.parametrize("stream", [True, False])
def test_the_drain_timeout_cuts_with_the_finish_reason_of_a_cut(serve, stream):
    server = serve("--drain-delay", "0s", "--drain-timeout", "500ms",
                   script=[{"step_us": 10000, "generate": 100000}])
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(max_tokens=50000, stream=stream)))
        server.wait_metrics(requests_running=1)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        if stream:
            events = last_words(raw)
            assert events[-1] == "[DONE]"
            finish = [c["finish_reason"] for e in events[:-1] for c in e["choices"] if c["finish_reason"]]
        else:
            status, _, body = raw.answer()
            assert status == 200
            finish = [c["finish_reason"] for c in json.loads(body)["choices"]]
        assert finish == ["insufficient_system_resource"]
        assert time.monotonic() - start > 0.4
    assert server.ended() == 0


def test_a_second_signal_cuts_at_once(serve):
    server = serve("--drain-delay", "1h", script=[{"step_us": 10000, "generate": 100000}])
    (raw,) = streams(server, 1, max_tokens=50000)
    server.process.send_signal(signal.SIGTERM)
    server.wait_said("signal")
    server.process.send_signal(signal.SIGTERM)
    finishes = [c["finish_reason"] for e in last_words(raw)[:-1] for c in e["choices"]]
    assert finishes[-1] == "insufficient_system_resource"
    assert server.ended() == 0


def test_an_interrupt_waits_for_no_balancer(serve):
    server = serve("--drain-delay", "1h")
    assert server.stop(signal.SIGINT) == 0


def test_a_reader_that_stopped_does_not_hold_the_shutdown_up_for_ever(serve):
    server = serve("--drain-delay", "0s", "--drain-timeout", "1s", "--stall-timeout", "1h",
                   script=[{"step_us": 100, "generate": 100000}])
    with Raw(server, receive_buffer=4096) as raw:
        raw.say(post(CHAT, chat(max_tokens=60000, stream=True)))
        server.wait_metrics(stream_ring_full_total=bool)
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0


def test_a_failed_engine_ends_streams_with_an_error_and_the_daemon_with_code_1(serve):
    server = serve(script=[{"step_us": 5000, "generate": 1000, "fail_at_step": 60}])
    with Raw(server) as stream, Raw(server) as whole, Raw(server) as third:
        stream.say(post(CHAT, chat(max_tokens=1000, stream=True)))
        while b"data: " not in stream.buffer:
            assert stream.more()
        whole.say(post(CHAT, chat(max_tokens=1000)))
        events = [line for line in stream.answer()[2].decode().split("\n") if line.startswith("data: ")]
        assert json.loads(events[-1][6:])["error"]["message"]  # no [DONE] after it
        status, _, body = whole.answer()
        assert status == 503 and json.loads(body)["error"]["type"] == "service_unavailable"
        server.wait_said("engine")
        third.say(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert third.answer()[0] == 503
        assert third.answer()[0] == 200
    assert server.ended() == 1


def test_a_wrong_start_is_exit_code_2_and_a_sentence(tmp_path):
    import subprocess

    from conftest import FATHOMD, MODEL, ROOT

    keys = tmp_path / "keys"
    keys.write_text("k" * 32 + "\n")
    keys.chmod(0o644)
    cases = {
        ("--listen", "0.0.0.0:0"): "no keys are set",
        ("--listen", "nonsense"): "wanted address:port",
        ("--keys", str(keys)): "wanted mode 600",
        ("--model", str(tmp_path)): "config.json",
        ("--no-such-option", "1"): "no-such-option",
        ("--connections", "-1"): "connections",
    }
    for arguments, sentence in cases.items():
        done = subprocess.run([FATHOMD, "serve", "--model", MODEL, "--backend", "scripted",
                               "--listen", "127.0.0.1:0", "--allow-root", *arguments],
                              capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
        assert done.returncode == 2, (arguments, done.stderr)
        assert sentence in done.stderr, (arguments, done.stderr)
