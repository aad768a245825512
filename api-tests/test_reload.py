"""SIGHUP and `fathomctl reload`: all of it or nothing, and no stream notices."""

import json
import signal
import subprocess
import threading

import pytest

from conftest import FATHOMD, MODEL, ROOT
from keyfile import make_file, make_key, write_file
from operator_socket import Operator
from raw import Raw, chat, post
from waiting import PATIENCE, wait_until

CHAT = "/v1/chat/completions"
SLOW = [{"step_us": 10000, "generate": 500}]  # an answer takes five seconds


@pytest.fixture
def room(serve, tmp_path):
    """A daemon with an option file and a key file; room.ini(...) writes the first."""

    class Room:
        def __init__(self):
            self.keys = tmp_path / "keys.json"
            self.file = tmp_path / "fathom.ini"
            self.operator = Operator(tmp_path / "admin.sock")

        def ini(self, **options):
            lines = {"keys": self.keys, "admin-socket": self.operator.path, **options}
            self.file.write_text("".join(f"{k.replace('_', '-')} = {v}\n" for k, v in lines.items()))

        def start(self, script=None):
            self.server = serve("--config", str(self.file), script=script)
            return self.server

        def counts(self):
            return self.operator.get("/status")["reloads"]

        def hang_up(self, well=True):
            """SIGHUP, and waits until it was acted on."""
            before = self.counts()
            self.server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: self.counts() != before)
            name = "ok" if well else "failed"
            assert self.counts()[name] == before[name] + 1

        def said(self):
            self.server.wait_said("reload")
            return self.server.said("reload")[-1]

        def status_of(self, key, **more):
            with Raw(self.server) as raw:
                raw.say(post(CHAT, chat(max_tokens=1, **more), f"Authorization: Bearer {key}"))
                return raw.answer()[0]

    return Room()


def test_keys_tenants_and_options_change_together(room):
    old, old_record = make_key("old", "acme")
    new, new_record = make_key("new", "beta")
    write_file(room.keys, [{"name": "acme"}], [old_record])
    room.ini(log_level="info", queue_wait="7s")
    room.start()
    assert room.status_of(old) == 200 and room.status_of(new) == 401
    write_file(room.keys, [{"name": "beta", "limits": {"output": 5}}], [new_record])
    room.ini(log_level="debug", queue_wait="9s")
    room.hang_up()
    assert room.status_of(old) == 401 and room.status_of(new) == 200
    assert set(room.said()["changed"].split(",")) == {"log-level", "queue-wait"}
    assert room.operator.get("/log-level") == {"level": "debug"}
    (tenant,) = room.operator.get("/tenants")["tenants"]
    assert tenant["name"] == "beta" and tenant["limits"] == {"output": 5}


def test_what_wants_a_restart_keeps_its_value_and_is_named(room):
    make_file(room.keys, "acme")
    room.ini(max_seqs=3, log_level="info")
    room.start()
    room.ini(max_seqs=5, log_level="warn")
    assert room.operator.post("/reload") == {"changed": ["log-level"], "restart": ["max-seqs"]}
    text = room.operator.ctl("reload")
    assert "only a restart takes it: max-seqs" in text and "changed: log" not in text


def broken_ini(room):
    room.file.write_text(room.file.read_text() + "drain-delay = 3s\nno-such-option = 1\n")
    return f"{room.file}:5:"


def wrong_value(room):
    room.file.write_text(room.file.read_text() + "drain-delay = soon\n")
    return f"{room.file}:4: drain-delay"


def no_ini(room):
    room.file.unlink()
    return str(room.file)


def broken_keys(room):
    room.keys.write_text(room.keys.read_text()[:-2])
    return str(room.keys)


def open_keys(room):
    room.keys.chmod(0o644)
    return str(room.keys)


def no_keys(room):
    room.keys.unlink()
    return str(room.keys)


def keys_of_nobody(room):
    write_file(room.keys, [], [make_key("x", "nobody")[1]])
    return "keys[0]: found a tenant that is not listed"


@pytest.mark.parametrize("spoil", [broken_ini, wrong_value, no_ini, broken_keys, open_keys, no_keys,
                                   keys_of_nobody])
def test_a_broken_file_changes_nothing_and_the_log_says_why(room, spoil):
    (key,) = make_file(room.keys, "acme")
    room.ini(log_level="info")
    server = room.start()
    before = room.operator.get("/tenants"), room.operator.get("/keys")
    other, record = make_key("other", "acme")
    write_file(room.keys, [{"name": "acme", "weight": 7}],
               json.loads(room.keys.read_text())["keys"] + [record])
    room.ini(log_level="debug")
    place = spoil(room)  # beside changes that would be right
    room.hang_up(well=False)
    assert place in room.said()["why"], room.said()
    assert (room.operator.get("/tenants"), room.operator.get("/keys")) == before
    assert room.operator.get("/log-level") == {"level": "info"}
    assert room.status_of(key) == 200 and room.status_of(other) == 401
    assert place in room.operator.ctl("reload", code=1)
    text = room.operator.ctl("metrics")
    assert 'fathom_config_reloads_total{model="pilot",result="failed"} 2' in text
    assert server.process.poll() is None


def test_streams_go_on_through_reloads_that_change_everything_about_them(room):
    old, old_record = make_key("old", "acme")
    new, new_record = make_key("new", "acme")
    write_file(room.keys, [{"name": "acme"}], [old_record])
    room.ini(log_level="info")
    server = room.start(script=SLOW)
    whole = []

    def ask(i):
        with Raw(server) as raw:
            raw.say(post(CHAT, chat(f"number {i}", max_tokens=500, stream=True),
                         f"Authorization: Bearer {old}"))
            text = raw.until(b"data: [DONE]").decode()
        events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
        tokens = sum(bool(c["delta"].get("content") or c["delta"].get("reasoning_content"))
                     for e in events for c in e["choices"])
        whole.append((tokens, events[-1]["choices"][0]["finish_reason"]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(room.operator.get("/requests")["requests"]) == 30)
    for i in range(20):  # the key that let them in is gone from the first time on
        write_file(room.keys, [{"name": "acme", "weight": 1 + i, "limits": {"running": 1, "output": 1}}],
                   [new_record])
        room.ini(log_level="info", queue_wait=f"{5 + i}s", stall_timeout=f"{5 + i}s")
        room.hang_up()
    assert len(room.operator.get("/requests")["requests"]) == 30, "reloaded while all of them ran"
    assert room.status_of(old) == 401
    for thread in threads:
        thread.join()
    assert len(whole) == 30 and all(n > 0 and f in ("stop", "length") for n, f in whole), whole
    assert len({n for n, _ in whole}) == 1, whole  # each has all of its tokens
    assert server.stop() == 0
    assert not [e for e in server.events if e.get("outcome") in ("error", "slow_client")]


def listens(operator):
    try:
        return operator.get("/status")
    except OSError:
        return False


def test_keys_cannot_be_taken_away_from_a_daemon_that_others_can_reach(tmp_path):
    keys, file = tmp_path / "keys", tmp_path / "fathom.ini"
    make_file(keys, "acme")
    operator = Operator(tmp_path / "admin.sock")
    file.write_text(f"keys = {keys}\n")
    process = subprocess.Popen(
        [FATHOMD, "serve", "--model", MODEL, "--backend", "scripted", "--listen", "0.0.0.0:0",
         "--allow-root", "--config", str(file), "--admin-socket", str(operator.path)],
        cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(operator))
        file.write_text("")
        assert "no keys are set" in operator.ctl("reload", code=1)
        assert operator.get("/keys")["asked_for"] is True
    finally:
        process.terminate()
        process.wait(PATIENCE)

