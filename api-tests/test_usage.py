"""The account: one record for each request, whatever became of it, and their sums are the counters."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from conftest import FATHOMD, MODEL, ROOT
from raw import Raw, chat, post
from waiting import PATIENCE, wait_until

CHAT = "/v1/chat/completions"
KEYS = {"time", "request_id", "tenant", "key_id", "user", "model", "route", "stream", "prompt_tokens",
        "cached_tokens", "reasoning_tokens", "output_tokens", "finish_reason", "outcome", "status",
        "queue_ms", "ttft_ms", "total_ms", "cancelled"}


def records(path):
    """Every line of the file is a whole record."""
    text = pathlib.Path(path).read_text()
    assert text.endswith("\n") or not text
    return [json.loads(line) for line in text.splitlines()]


def wait_for(path, count):
    """The writer is a thread of its own."""
    wait_until(lambda: os.path.exists(path) and path.read_bytes().count(b"\n") >= count,
               lambda: f"{path} has not come to {count} records")
    return records(path)


def test_a_record_says_what_the_answer_said(serve, tmp_path):
    path = tmp_path / "usage"
    server = serve("--backend", "cpu", "--usage-log", str(path))
    usage = {}
    with Raw(server) as raw:
        for name, body in {
            "plain": chat("hello", max_tokens=5, thinking=False),
            "again": chat("hello " * 200, max_tokens=5, thinking=False),
            "known": chat("hello " * 200, max_tokens=7, thinking=False),
            "thinks": chat("what is two and two?", max_tokens=30, user_id="alice"),
            "stopped": chat("count", max_tokens=50, stop=["e", "a", "i"], thinking=False, user_id="bob"),
        }.items():
            raw.say(post(CHAT, body, f"X-Request-Id: {name}"))
            status, _, answer = raw.answer()
            assert status == 200
            usage[name] = json.loads(answer)
        raw.say(post(CHAT, chat(max_tokens=-1), "X-Request-Id: wrong"))
        assert raw.answer()[0] == 400
        raw.say(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")  # no work, no record
        assert raw.answer()[0] == 200
    assert server.stop() == 0
    found = {record["request_id"]: record for record in records(path)}
    assert set(found) == set(usage) | {"wrong"}
    for name, answer in usage.items():
        record, said = found[name], answer["usage"]
        assert set(record) == KEYS
        assert record["prompt_tokens"] == said["prompt_tokens"]
        assert record["output_tokens"] == said["completion_tokens"]
        assert record["cached_tokens"] == said["prompt_tokens_details"]["cached_tokens"]
        assert record["reasoning_tokens"] == said["completion_tokens_details"]["reasoning_tokens"]
        assert record["finish_reason"] == record["outcome"] == answer["choices"][0]["finish_reason"]
        assert record["status"] == 200 and record["cancelled"] is False
        assert 0 < record["ttft_ms"] <= record["total_ms"] and record["queue_ms"] >= 0
        assert record["model"] == "pilot" and record["route"] == "/chat/completions"
    assert found["known"]["cached_tokens"] > 0 and found["thinks"]["reasoning_tokens"] > 0
    assert found["stopped"]["finish_reason"] == "stop"
    wrong = found["wrong"]
    assert (wrong["status"], wrong["outcome"], wrong["finish_reason"]) == (400, "bad_request", None)
    assert wrong["prompt_tokens"] == wrong["output_tokens"] == 0 and wrong["ttft_ms"] is None
    assert found["plain"]["user"] is None
    users = [found["thinks"]["user"], found["stopped"]["user"]]
    assert users[0] and users[1] and users[0] != users[1] and "alice" not in users[0]


def test_choices_share_the_price_of_their_prompt(serve, tmp_path):
    path = tmp_path / "usage"
    server = serve("--max-n", "4", "--usage-log", str(path))
    body = {"model": "pilot", "prompt": ["one " * 9, "two " * 20], "n": 2, "max_tokens": 3}
    said = server.post("/v1/completions", body)["usage"]
    record = wait_for(path, 1)[0]
    assert record["prompt_tokens"] == said["prompt_tokens"]
    assert record["output_tokens"] == said["completion_tokens"] == 12
    assert server.metrics()["prompt_tokens_total"] == said["prompt_tokens"]


def one_request(server, chance):
    """A request that may be wrong, may end well, and may be left at any moment."""
    stream = chance.random() < 0.7
    said = "word " * chance.choice([1, 10, 500])
    tokens = chance.choice([1, 5, 40, 100000])
    path, body = chance.choice([
        (CHAT, chat(said, max_tokens=tokens, stream=stream, stop=list("qwxyzABC"), thinking=False)),
        (CHAT, chat(said, max_tokens=tokens, stream=stream, n=3)),
        ("/v1/completions", {"prompt": ["a b", said], "max_tokens": tokens, "stream": stream}),
        ("/v1/messages", {"messages": [{"role": "user", "content": said}], "max_tokens": tokens,
                          "stream": stream}),
        ("/v1/responses", {"input": said, "max_output_tokens": tokens, "stream": stream}),
        (CHAT, b"{"),
        (CHAT, chat(said, temperature=7)),
    ])
    with Raw(server) as raw:
        deadline = ["X-Request-Timeout: 0.05"] if chance.random() < 0.1 else []
        raw.say(post(path, body, *deadline))
        if tokens < 100 and chance.random() < 0.6:
            assert raw.answer() is not None
        elif stream and chance.random() < 0.6:
            raw.more()
        if chance.random() < 0.5:
            time.sleep(chance.random() * 0.02)


@pytest.mark.parametrize("tokens_per_step", [1, 3])
def test_sums_of_records_are_the_counters_under_random_hang_ups(serve, tmp_path, tokens_per_step):
    path = tmp_path / "usage"
    script = [{"step_us": 500, "generate": 1000000, "prefill_per_step": 512,
               "tokens_per_step": tokens_per_step}]
    server = serve("--max-n", "4", "--usage-log", str(path), script=script)

    def worker(seed):
        chance = random.Random(seed)
        for _ in range(50):
            one_request(server, chance)

    threads = [threading.Thread(target=worker, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.wait_idle()
    assert sum(1 for record in wait_for(path, 400)) == 400
    now = server.metrics()  # nothing was asked of it in between
    found = records(path)
    assert now['usage_records_total{result="written"}'] == len(found)
    assert now['usage_records_total{result="lost"}'] == 0
    assert now["prompt_tokens_total"] == sum(record["prompt_tokens"] for record in found) > 0
    assert now["generation_tokens_total"] == sum(record["output_tokens"] for record in found) > 0
    for outcome in {record["outcome"] for record in found} | {"stop", "length", "client_gone"}:
        told = now[f'requests_total{{outcome="{outcome}"}}']
        assert told == sum(record["outcome"] == outcome for record in found) > 0, outcome
    for record in found:
        gone = record["outcome"] == "client_gone"
        assert (record["status"] == 499) == gone
        assert record["cancelled"] or record["outcome"] not in ("slow_client", "deadline") or \
            not record["output_tokens"]
        assert not (record["cancelled"] and record["outcome"] in ("stop", "length"))
    cut = [record for record in found if record["cancelled"]]
    assert sum(record["output_tokens"] for record in cut) > 0  # what was made until it took effect


def test_tokens_of_a_reader_who_left_count_until_the_engine_stopped(serve, tmp_path):
    path = tmp_path / "usage"
    server = serve("--usage-log", str(path), script=[{"step_us": 20000, "generate": 1000000}])
    with Raw(server) as raw:
        raw.say(post(CHAT, chat("hello", max_tokens=100000, stream=True, thinking=False)))
        for _ in range(6):
            raw.until(b"data: ")
    record = wait_for(path, 1)[0]
    assert record["cancelled"] and record["finish_reason"] is None and record["status"] == 499
    assert 4 <= record["output_tokens"] < 200
    assert server.metrics()["generation_tokens_total"] == record["output_tokens"]


def test_a_rotated_file_is_opened_again_on_request(serve, tmp_path):
    path, old = tmp_path / "usage", tmp_path / "usage.1"
    server = serve("--usage-log", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    server.post(CHAT, chat("one", max_tokens=2))
    wait_for(path, 1)
    path.rename(old)
    server.process.send_signal(signal.SIGUSR1)
    wait_until(path.exists)
    server.post(CHAT, chat("two", max_tokens=2))
    server.post(CHAT, chat("three", max_tokens=2))
    assert len(wait_for(path, 2)) == 2 and len(records(old)) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_that_went_costs_one_log_line(serve, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    path = place / "usage"
    server = serve("--usage-log", str(path), "--sandbox", "off")  # it may write where it could at its start
    server.post(CHAT, chat("one", max_tokens=2))
    wait_for(path, 1)
    shutil.rmtree(place)
    for _ in range(5):
        server.post(CHAT, chat("two", max_tokens=2))
        time.sleep(0.3)
    server.wait_said("usage_log")
    said = server.said("usage_log")
    assert len(said) == 1 and "No such file" in said[0]["message"]
    place.mkdir()
    assert len(wait_for(path, 5)) == 5  # they had waited
    assert server.stop() == 0
    assert "written again" in "".join(server.log)


def test_a_full_disk_loses_no_answer(tmp_path):
    """A limit on the size of files stands for the disk."""
    path = tmp_path / "usage"
    command = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", FATHOMD, "serve", "--model", MODEL,
               "--backend", "scripted", "--listen", "127.0.0.1:0", "--allow-root", "--usage-log", str(path)]
    read, write = os.pipe()
    process = subprocess.Popen(command, stderr=write, stdout=subprocess.DEVNULL, cwd=ROOT)
    os.close(write)
    events = (json.loads(line) for line in os.fdopen(read))
    url = next(event["url"] for event in events if event["event"] == "ready")

    class Address:
        address = (url.removeprefix("http://").split(":")[0], int(url.rsplit(":", 1)[1]))

    with Raw(Address) as raw:
        for _ in range(10):  # each record has more than a tenth of the limit
            raw.say(post(CHAT, chat("hello", max_tokens=2)))
            assert raw.answer()[0] == 200
    process.send_signal(signal.SIGINT)
    said = [event for event in events if event["event"] == "usage_log"]
    assert process.wait(PATIENCE) == 0
    assert "records wait in memory" in said[0]["message"] and "are lost" in said[-1]["message"]
    assert 1 <= len(records(path)) < 10  # and none of them in half


def test_a_file_that_cannot_be_made_is_a_wrong_start(tmp_path):
    wrong = subprocess.run([FATHOMD, "serve", "--model", MODEL, "--backend", "scripted", "--listen",
                            "127.0.0.1:0", "--allow-root", "--usage-log", str(tmp_path)],
                           capture_output=True, timeout=PATIENCE, text=True,
                           cwd=ROOT)
    assert wrong.returncode == 2 and str(tmp_path) in wrong.stderr


def usage_verb(*arguments):
    done = subprocess.run([FATHOMD, "usage", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


def test_the_verb_sums_records_by_whatever_is_asked(tmp_path):
    chance, made = random.Random(1), []
    for i in range(5000):
        made.append({
            "time": f"2026-01-{1 + i % 31:02}T12:00:00.123Z", "request_id": str(i), "tenant": chance.choice("abc"),
            "key_id": chance.choice(["k1", "k2", None]), "user": f"{chance.randrange(2000):016x}",
            "model": chance.choice(["pilot", None]), "route": "/messages", "stream": True,
            "prompt_tokens": chance.randrange(10**6), "cached_tokens": chance.randrange(1000),
            "reasoning_tokens": chance.randrange(1000), "output_tokens": chance.randrange(10**6),
            "finish_reason": None, "outcome": "stop", "status": chance.choice([200, 400, 499]),
            "queue_ms": 0.1, "ttft_ms": None, "total_ms": 3.5, "cancelled": chance.random() < 0.1})
    path = tmp_path / "usage"
    path.write_text("".join(json.dumps(record) + "\n" for record in made))
    names = {"tenant": lambda r: r["tenant"], "key": lambda r: f"{r['tenant']}/{r['key_id'] or '-'}",
             "user": lambda r: f"{r['tenant']}/{r['user']}", "model": lambda r: r["model"] or "-",
             "day": lambda r: r["time"][:10]}
    for by, name in names.items():
        wanted = {}
        for record in made:
            group = wanted.setdefault(name(record), dict.fromkeys(
                ("requests", "prompt_tokens", "cached_tokens", "reasoning_tokens", "output_tokens", "cancelled", "failed"), 0))
            for key in group:
                group[key] += {"requests": 1, "failed": record["status"] >= 400}.get(key, record.get(key))
        code, out, _ = usage_verb("--by", by, "--json", path)
        found = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and [group[by] for group in found] == sorted(wanted)
        assert {group.pop(by): group for group in found} == wanted
    code, out, _ = usage_verb(path, path)
    total = out.splitlines()[-1].split()
    assert code == 0 and len(out.splitlines()) == 5 and total[0] == "total" and int(total[1]) == 10000
    assert int(total[2]) == 2 * sum(record["prompt_tokens"] for record in made)


def test_the_verb_sums_what_a_daemon_wrote_and_says_what_is_no_record(serve, tmp_path):
    path = tmp_path / "usage"
    server = serve("--usage-log", str(path))
    for _ in range(3):
        server.post(CHAT, chat("one", max_tokens=2))
    wait_for(path, 3)
    now = server.metrics()
    code, out, _ = usage_verb("--json", path)
    assert code == 0 and json.loads(out) == {
        "tenant": "default", "requests": 3, "prompt_tokens": now["prompt_tokens_total"], "cached_tokens": 0,
        "reasoning_tokens": json.loads(out)["reasoning_tokens"], "output_tokens": now["generation_tokens_total"],
        "cancelled": 0, "failed": 0}
    with open(path, "a") as file:
        file.write('{"tenant": "default", "stat\nnull\n')
    code, out, err = usage_verb("--json", path)
    assert code == 1 and json.loads(out)["requests"] == 3 and "2 lines were no records" in err
    assert usage_verb(tmp_path / "none")[0] == 1
    for wrong in ([], ["--by", "weather", path], ["--by"], ["--what", path]):
        code, _, err = usage_verb(*wrong)
        assert code == 2 and err.startswith("usage:")
