"""`fathomd cache` over directories that a daemon filled, and that daemon after it."""

import json
import os
import subprocess

import pytest

from conftest import FATHOMD, MODEL
from keyfile import make_file
from waiting import PATIENCE

LONG = "A fox and a hen went out to see the world. " * 40
BLOCKS = 3  # at least so many whole blocks are in it


def tool(*args, code=0):
    done = subprocess.run([FATHOMD, "cache", *map(str, args)], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def lines(*args, code=0):
    return [json.loads(line) for line in tool(*args, "--json", code=code).stdout.splitlines()]


def ask(server, user=None, key=None):
    """Returns the text of an answer, and how much of its prompt was known."""
    extra = {"user_id": user} if user else {}
    answer = server.client().with_options(api_key=key or "none").chat.completions.create(
        model="pilot", messages=[{"role": "user", "content": LONG}], max_tokens=4, temperature=0,
        extra_body=extra)
    message = answer.choices[0].message
    return ((message.content or "") + (message.model_extra.get("reasoning_content") or ""),
            answer.usage.prompt_tokens_details.cached_tokens)


@pytest.fixture
def keep(serve, tmp_path):
    """Starts a daemon that keeps its cache in one directory, which is its attribute `dir`."""

    def start(*more):
        server = serve("--backend", "cpu", "--max-seqs", "4", "--context", "4096", "--cache-host", "64MiB",
                       "--cache-dir", str(tmp_path / "cache"), "--cache-size", "64MB",
                       "--cache-disk-after", "0s", *more)
        server.dir = tmp_path / "cache"
        return server

    return start


def bytes_of(directory):
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_a_tenant_is_listed_found_after_a_restart_and_purged(keep):
    server = keep()
    cold = {user: ask(server, user) for user in (None, "alice", "bob")}
    assert [cached for _, cached in cold.values()] == [0, 0, 0]
    assert len({text for text, _ in cold.values()}) == 1

    # Whoever looks while it runs reads, and changes nothing.
    [stat] = lines("stat", server.dir)
    assert stat["state"] == "in use" and stat["process"] == server.process.pid
    assert lines("verify", server.dir)[-1]["damaged"] == 0
    lines("ls", server.dir)
    refused = tool("purge", server.dir, "--all", code=1)
    assert f"in use by process {server.process.pid}" in refused.stderr
    assert server.stop() == 0

    scopes = lines("ls", server.dir)
    assert len(scopes) == 3
    assert all(scope["blocks"] >= BLOCKS and scope["windows"] >= 1 for scope in scopes)
    [alice] = lines("ls", server.dir, "--user", "alice")
    assert alice in scopes
    [stat] = lines("stat", server.dir)
    assert stat["state"] == "closed" and stat["key"] == "that of the secret and a known model"
    assert stat["records"] == sum(scope["blocks"] + scope["windows"] for scope in scopes)
    keys = [bytes.fromhex(record["key"])
            for record in lines("ls", server.dir, "--blocks", "--user", "alice")]
    assert len(keys) == alice["blocks"] + alice["windows"]
    assert any(key in bytes_of(server.dir) for key in keys)

    server = keep()
    text, cached = ask(server, "alice")
    assert text == cold["alice"][0] and cached >= BLOCKS * 128
    assert server.stop() == 0

    [purged] = lines("purge", server.dir, "--user", "alice")
    assert purged["scope"] == alice["scope"] and purged["records_purged"] >= len(keys)
    assert not any(key in bytes_of(server.dir) for key in keys)
    assert alice["scope"] not in [scope["scope"] for scope in lines("ls", server.dir)]
    assert lines("verify", server.dir)[-1]["damaged"] == 0

    server = keep()
    assert ask(server, "alice") == (cold["alice"][0], 0)
    text, cached = ask(server, "bob")
    assert text == cold["bob"][0] and cached >= BLOCKS * 128


def test_a_tenant_behind_a_key_is_found_by_its_name(keep, tmp_path):
    keys = tmp_path / "keys"
    mine, other = make_file(keys, "mine", {"name": "other", "group": "others"})
    server = keep("--keys", str(keys))
    ask(server, key=mine)
    ask(server, key=other)
    assert server.stop() == 0
    assert len(lines("ls", server.dir)) == 2
    assert lines("ls", server.dir, "--user", "") == []
    assert lines("ls", server.dir, "--user", "", "--tenant", "other") == []
    assert len(lines("ls", server.dir, "--user", "", "--group", "others")) == 1
    [scope] = lines("ls", server.dir, "--user", "", "--tenant", "mine")
    tool("purge", server.dir, "--user", "", "--tenant", "mine")
    [other] = lines("ls", server.dir)
    assert other["scope"] != scope["scope"]


def test_what_is_damaged_is_named_and_then_a_miss(keep):
    server = keep()
    cold, _ = ask(server)
    assert server.stop() == 0
    record = next(r for r in lines("ls", server.dir, "--blocks") if r["object"] == "block" and r["depth"] == 1)
    with open(server.dir / record["file"], "r+b") as segment:
        segment.seek(record["page"] * 4096 + 700)
        byte = segment.read(1)[0]
        segment.seek(-1, os.SEEK_CUR)
        segment.write(bytes([byte ^ 0x10]))
    *bad, sums = lines("verify", server.dir, code=1)
    assert [b["key"] for b in bad] == [record["key"]] and bad[0]["verdict"] == "damaged"
    assert sums["damaged"] == 1
    server = keep()
    text, cached = ask(server)
    assert text == cold and cached <= 128
    assert server.metrics()["cache_disk_wrong_total"] >= 1


def test_a_wiped_directory_begins_again(keep):
    server = keep()
    cold, _ = ask(server)
    assert server.stop() == 0
    tool("purge", server.dir, "--all")
    assert sorted(path.name for path in server.dir.iterdir()) == ["LOCK", "g", "secret", "w", "weights"]
    tool("ls", server.dir, code=1)
    server = keep()
    assert ask(server) == (cold, 0)


def test_a_second_start_reads_no_weights_for_their_digest(keep):
    server = keep()
    assert any(event["event"] == "weights_digest" for event in server.events)
    assert server.stop() == 0
    server = keep()
    assert not any(event["event"] == "weights_digest" for event in server.events)


@pytest.mark.parametrize("spoil,why", [
    (lambda d: (d / "secret").chmod(0o644), "secret: found mode 0644"),
    (lambda d: (d / "secret").write_bytes(b"short"), "secret: found 5 bytes, wanted 32"),
    (lambda d: (d / "secret").unlink(), "the file secret is gone"),
    (lambda d: (d / "letters").write_text("dear"), "holds letters and no cache"),
    (lambda d: d.chmod(0o755), "found mode 0755"),
])
def test_a_directory_that_is_not_ours_alone_is_done_without(keep, spoil, why):
    server = keep()
    assert server.stop() == 0
    spoil(server.dir)
    server = keep()
    detail = json.loads(server.get("/ready"))["cache_disk"]
    assert detail["state"] == "off" and why in detail["why"]
    ask(server)
    assert ask(server)[1] >= BLOCKS * 128  # from memory


@pytest.mark.parametrize("options,why", [
    (["--cache-dir", "/nowhere/c"], "cache-dir: found \"/nowhere/c\" and no cache-size"),
    (["--cache-size", "1GB"], "cache-size: found \"1GB\" and no cache-dir"),
    (["--cache-write-rate", "1MB"], "cache-write-rate: found \"1MB\" and no cache-dir"),
    (["--cache-dir", "/nowhere/c", "--cache-size", "1GB", "--prefix-cache=off"], "prefix-cache is off"),
    (["--cache-dir", "/nowhere/c", "--cache-size", "1GB", "--backend", "scripted"], "scripted"),
])
def test_options_that_contradict_each_other_are_refused(options, why):
    for ask_for in ([], ["--check-config"]):
        done = subprocess.run([FATHOMD, "serve", "--model", MODEL, "--allow-root", *ask_for, *options],
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 2 and why in done.stderr.replace('\\"', '"'), done.stderr


def test_the_configuration_shows_the_options_of_the_cache():
    done = subprocess.run([FATHOMD, "--model", MODEL, "--cache-dir", "/nowhere/c", "--cache-size", "200GB",
                           "--print-config"], capture_output=True, text=True)
    shown = dict(line.split(";")[0].split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    shown = {name.strip(): value.strip() for name, value in shown.items()}
    assert shown["cache-dir"] == "/nowhere/c" and shown["cache-size"] == "200GB"
    assert shown["prefix-cache"] == "true" and shown["cache-replay"] == "exact"
