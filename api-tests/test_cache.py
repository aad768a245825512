"""The prefix cache seen from outside, with the pilot on the CPU: what is not computed again, that no
answer changes by it, that nobody reads what another's prompts computed, and what outlives the daemon.

A hit is told by X-Fathom-Cache and by the usage; test_cache_report.py holds these against each other.
"""

import json
import re
import shutil
import subprocess
import threading

import conftest
import openai
import pytest
from keyfile import make_file
from waiting import PATIENCE, wait_until

MODEL = "pilot"
SYSTEM = ("You are an agent that looks things up before it answers. " * 24).strip()
LONG = " ".join([SYSTEM] * 6)  # worth reading from a disk that is busy
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                   "required": ["city"]}}}]
CITIES = ["Oslo", "Paris", "Madrid", "Rome", "Berlin", "Vienna", "Lisbon"]
TURNS = 20


def hit_of(answer):
    """What the header says: {hit, tier, miss, at}."""
    match = re.fullmatch(r"hit=(\d+)(?: tier=(\w+))? miss=([\w-]+)(?:@(\d+))?",
                         answer.headers["x-fathom-cache"])
    assert match, answer.headers["x-fathom-cache"]
    return {"hit": int(match[1]), "tier": match[2], "miss": match[3],
            "at": int(match[4]) if match[4] else None}


def client_of(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)


def ask(server, text, key="none", system=SYSTEM, **fields):
    """One question with a system prompt of several blocks; what the cache gave."""
    answer = client_of(server, key).chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "system", "content": system},
                               {"role": "user", "content": text}],
        temperature=0, max_tokens=4, extra_body=fields)
    return hit_of(answer)


class Agent:
    """A conversation that grows: questions, calls, results, answers."""

    def __init__(self, server, thinking, system=SYSTEM, **fields):
        self.client = client_of(server)
        self.fields = fields
        self.thinking = thinking
        self.messages = [{"role": "system", "content": system}]
        self.turn = 0
        self.said = []

    def ask_next(self):
        calls = self.messages[-1].get("tool_calls") if self.turn else None
        city = CITIES[self.turn % len(CITIES)]
        if calls:
            self.messages += [{"role": "tool", "tool_call_id": call["id"],
                               "content": f"{self.turn} degrees and rain"} for call in calls]
        elif self.turn % 3 == 2:
            self.messages.append({"role": "user", "content": f"What is the capital of {city}?"})
        else:
            self.messages.append({"role": "user", "content": f"What is the weather in {city}?"})

    def step(self):
        """The next turn: usage and how it ended."""
        self.ask_next()
        self.turn += 1
        answer = self.client.chat.completions.with_raw_response.create(
            model=MODEL, messages=self.messages, tools=TOOLS, temperature=0.9, seed=self.turn,
            max_tokens=48, extra_body={"thinking": self.thinking, **self.fields})
        hit = hit_of(answer)
        answer = answer.parse()
        message = answer.choices[0].message.model_dump(exclude_none=True)
        self.said.append({k: message.get(k) for k in ("content", "reasoning_content")}
                         | {"calls": [c["function"] for c in message.get("tool_calls", [])]})
        self.messages.append({k: v for k, v in message.items()
                              if k in ("role", "content", "reasoning_content", "tool_calls")})
        self.messages[-1].setdefault("content", None if message.get("tool_calls") else "")
        assert answer.usage.prompt_tokens_details.cached_tokens == hit["hit"]
        return answer.usage, answer.choices[0].finish_reason


def run(server, thinking, turns=TURNS, **fields):
    """[(prompt, cached, output tokens, whether it was cut)] of each turn, and what was said."""
    agent = Agent(server, thinking, **fields)
    rows = []
    for _ in range(turns):
        usage, finish = agent.step()
        rows.append((usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens,
                     usage.completion_tokens, finish == "length"))
    return rows, agent


@pytest.fixture
def cpu(serve):
    """Starts the pilot; with directory, with a cache on disk."""
    def start(*arguments, directory=None):
        disk = ("--cache-dir", str(directory), "--cache-size", "64MiB") if directory else ()
        return serve("--backend", "cpu", "--max-seqs", "4", "--context", "16384", *disk, *arguments)
    return start


# ---- what is not computed again --------------------------------------------------------------------


@pytest.mark.parametrize("thinking", [False, True])
def test_each_turn_computes_its_new_tokens_and_at_most_127_more(cpu, thinking):
    """New is what the turn before had neither in its prompt nor in its output. Of an answer that was
    cut by length the last token was never computed."""
    server = cpu()
    rows, agent = run(server, thinking)
    for before, now in zip(rows, rows[1:]):
        new = now[0] - before[0] - before[2] + (1 if before[3] else 0)
        assert new >= 0, (before, now)
        assert now[0] - now[1] <= new + 127, (before, now, rows)
    assert any(row["calls"] for row in agent.said)
    total, cached = sum(row[0] for row in rows), sum(row[1] for row in rows)
    assert cached > 0.7 * total
    metrics = server.wait_idle()
    told = sum(metrics['cache_hit_tokens_total{tier="%s"}' % t] for t in ("device", "host", "disk"))
    assert told == cached == metrics["prefix_cache_hit_tokens_total"]
    assert metrics["prefix_cache_query_tokens_total"] == total


@pytest.mark.parametrize("thinking", [False, True])
def test_answers_are_those_of_a_daemon_without_a_cache(cpu, thinking):
    with_cache, without = cpu(), cpu("--no-prefix-cache")
    rows, agent = run(with_cache, thinking, turns=12)
    cold_rows, cold = run(without, thinking, turns=12)
    assert agent.said == cold.said
    assert [row[0] for row in rows] == [row[0] for row in cold_rows]
    assert all(row[1] == 0 for row in cold_rows) and any(row[1] > 0 for row in rows)
    assert ask(without, "hello") == {"hit": 0, "tier": None, "miss": "off", "at": None}


def party(server, turns):
    """What six conversations of as many users said that went on side by side."""
    agents = [Agent(server, thinking=bool(i % 2), user_id=str(i)) for i in range(6)]
    failed = []

    def go(agent):
        try:
            for _ in range(turns):
                agent.step()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=go, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    return [agent.said for agent in agents]


def test_answers_stay_the_same_while_blocks_make_room_for_each_other(serve, tmp_path):
    """Device memory for little more than one conversation, and a tier below it."""
    fixed = ("--backend", "cpu", "--max-seqs", "2", "--context", "2048")
    small = serve(*fixed, "--kv-memory", "11MiB", "--cache-host", "64MiB")
    said = party(small, 4)
    metrics = small.metrics()
    assert metrics['cache_evicted_total{object="w",tier="device"}'] > 0
    assert metrics['cache_loaded_bytes_total{tier="host"}'] > 0
    small.stop()
    assert party(serve(*fixed, "--no-prefix-cache"), 4) == said


def messages_turn(server, said, text):
    said.append({"role": "user", "content": text})
    answer = server.post("/v1/messages", {"model": MODEL, "max_tokens": 40, "system": SYSTEM,
                                          "messages": said, "thinking": {"type": "disabled"}})
    said.append({"role": "assistant", "content": answer["content"]})
    usage = answer["usage"]
    cached = usage["cache_read_input_tokens"]
    return usage["input_tokens"] + cached, cached, usage["output_tokens"]


def responses_turn(server, said, text):
    said.append({"role": "user", "content": text})
    answer = server.post("/v1/responses", {"model": MODEL, "max_output_tokens": 40, "input": said,
                                           "instructions": SYSTEM, "reasoning": {"effort": "none"}})
    said += answer["output"]
    usage = answer["usage"]
    return (usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"],
            usage["output_tokens"])


@pytest.mark.parametrize("turn", [messages_turn, responses_turn])
def test_other_protocols_go_on_the_same_way(cpu, turn):
    server, said = cpu(), []
    before = turn(server, said, "What is the capital of Norway?")
    for city in CITIES[:5]:
        now = turn(server, said, f"What is the weather in {city}?")
        assert now[0] - now[1] <= now[0] - before[0] - before[2] + 1 + 127, (before, now)
        before = now
    assert server.metrics()['text_alias_lookups_total{result="missed"}'] == 0


def test_logprobs_of_a_hit_are_those_of_the_cold_prompt(cpu):
    server = cpu()
    fields = dict(model=MODEL, prompt=SYSTEM + " What is", max_tokens=8, temperature=0, logprobs=5)
    create = client_of(server).completions.with_raw_response.create
    cold, warm = create(**fields), create(**fields)
    assert hit_of(cold)["hit"] == 0 and hit_of(warm)["hit"] >= 128
    assert cold.parse().choices[0].logprobs == warm.parse().choices[0].logprobs
    never = create(**fields, extra_body={"no_cache": True})
    assert hit_of(never) == {"hit": 0, "tier": None, "miss": "off", "at": None}
    assert never.parse().choices[0].logprobs == cold.parse().choices[0].logprobs


def test_choices_of_one_prompt_compute_it_once(cpu):
    server = cpu("--max-n", "4")
    answer = client_of(server).chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "system", "content": SYSTEM},
                               {"role": "user", "content": "What is the capital of Norway?"}],
        n=4, temperature=0.9, seed=3, max_tokens=12, extra_body={"thinking": False})
    assert hit_of(answer)["hit"] == 0
    choices = [choice.message.content for choice in answer.parse().choices]
    prompt = answer.parse().usage.prompt_tokens
    assert answer.parse().usage.prompt_tokens_details.cached_tokens == 0
    server.wait_idle()
    assert server.requests_logged()[-1]["cached_tokens"] >= 3 * (prompt - 1)
    assert server.metrics()["cache_forks_total"] == 3
    cold = cpu("--max-n", "4", "--no-prefix-cache")
    again = client_of(cold).chat.completions.create(
        model=MODEL, messages=[{"role": "system", "content": SYSTEM},
                               {"role": "user", "content": "What is the capital of Norway?"}],
        n=4, temperature=0.9, seed=3, max_tokens=12, extra_body={"thinking": False})
    assert [choice.message.content for choice in again.choices] == choices


def test_a_prompt_that_is_not_to_be_kept_is_not_found(cpu):
    server = cpu()
    assert ask(server, "hello", no_store=True)["hit"] == 0
    assert ask(server, "hello", no_cache=True)["miss"] == "off"
    assert ask(server, "hello")["hit"] >= 256  # the one without no_store left it


# ---- who shares with whom --------------------------------------------------------------------------

SCOPES = [{}, {"user_id": "a"}, {"user_id": "b"}, {"cache_salt": "a"}, {"extra_key": "a"},
          {"user_id": "a", "cache_salt": "s"}, {"user_id": "b", "cache_salt": "s"}]


def test_scopes_share_nothing(cpu):
    server = cpu()
    for scope in SCOPES:
        assert ask(server, "one", **scope) == {"hit": 0, "tier": None, "miss": "unknown", "at": 0}
    for scope in SCOPES:
        assert ask(server, "two", **scope)["hit"] >= 256, scope
    assert ask(server, "two", user="a")["hit"] >= 256  # another name of user_id


def test_scopes_share_nothing_after_a_restart(cpu, tmp_path):
    server = cpu(directory=tmp_path / "cache")
    for scope in SCOPES[:4]:
        assert ask(server, "one", system=LONG, **scope)["hit"] == 0
    assert server.stop() == 0
    server = cpu(directory=tmp_path / "cache")
    for scope in SCOPES[:4]:
        hit = ask(server, "two", system=LONG, **scope)
        assert hit["hit"] >= 256 and hit["tier"] == "disk", (scope, hit)
    for scope in SCOPES[4:]:
        assert ask(server, "two", system=LONG, **scope)["hit"] == 0, scope


def test_a_cache_is_its_tenants_whatever_the_key(cpu, tmp_path):
    path = tmp_path / "keys"
    tenants = ["first", "second", {"name": "third", "group": "g"}, {"name": "fourth", "group": "g"}]
    keys = make_file(path, *tenants[:3])
    server = cpu("--keys", str(path), directory=tmp_path / "cache")
    for key in keys:
        assert ask(server, "one", system=LONG, key=key, user_id="a")["hit"] == 0
        assert ask(server, "two", system=LONG, key=key, user_id="a")["hit"] >= 256
    assert server.stop() == 0
    other, second, _, fourth = make_file(path, "other", "second", *tenants[2:])
    assert second != keys[1]
    server = cpu("--keys", str(path), directory=tmp_path / "cache")
    assert ask(server, "one", system=LONG, key=other, user_id="a")["hit"] == 0
    assert ask(server, "one", system=LONG, key=second, user_id="a")["hit"] >= 256
    assert ask(server, "one", system=LONG, key=second)["hit"] == 0
    assert ask(server, "one", system=LONG, key=fourth, user_id="a")["hit"] >= 256


def test_users_share_where_their_tenant_does_not_isolate_them(cpu, tmp_path):
    [key] = make_file(tmp_path / "keys", {"name": "one", "isolate_users": False})
    server = cpu("--keys", str(tmp_path / "keys"))
    assert ask(server, "one", key=key, user_id="a")["hit"] == 0
    assert ask(server, "one", key=key, user_id="b")["hit"] >= 256


# ---- what outlives the daemon ----------------------------------------------------------------------


def test_a_conversation_from_before_a_restart_is_a_hit(cpu, tmp_path):
    server = cpu(directory=tmp_path / "cache")
    rows, agent = run(server, thinking=False, turns=6, system=LONG)
    assert server.stop() == 0
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    server = cpu(directory=tmp_path / "cache")
    assert server.metrics()['cache_disk_state{state="on"}'] == 1
    server.wait_metrics(cache_disk_recovered_records=bool)
    assert "cache_disk" not in json.loads(server.get("/ready"))
    agent.client = client_of(server)
    before = rows[-1]
    usage, _ = agent.step()
    # The ids of answers are gone with the process, so the last answer may read as other ids.
    new = usage.prompt_tokens - before[0]
    assert usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens <= new + 127, before
    metrics = server.metrics()
    assert metrics['cache_hit_tokens_total{tier="disk"}'] > 0
    assert metrics["cache_disk_load_seconds_count"] == 1 <= metrics["cache_match_seconds_count"]
    cold = cpu("--no-prefix-cache")
    said = agent.said[-1]
    again = Agent(cold, False)
    again.messages, again.turn = agent.messages[:-2], agent.turn - 1
    again.step()
    assert again.said[-1] == said


def fathomd(*arguments):
    """The tool for cache directories."""
    return subprocess.run([conftest.FATHOMD, "cache", *arguments], capture_output=True, text=True,
                          timeout=PATIENCE)


def test_purging_a_tenant_leaves_nothing_of_it_and_the_others_theirs(cpu, tmp_path):
    directory = tmp_path / "cache"
    server = cpu(directory=directory)
    for user in ("keep", "purge"):  # the same text would leave the same bytes for both
        own = user + LONG
        assert ask(server, "one", system=own, user_id=user)["hit"] == 0
        assert ask(server, "two", system=own, user_id=user, cache_salt="s")["hit"] == 0
    assert server.stop() == 0
    def images(user):
        """The bytes of the tenant's records."""
        listed = fathomd("ls", str(directory), "--blocks", "--json", "--user", user).stdout
        rows = [json.loads(line) for line in listed.splitlines()]
        read = {name: (directory / name).read_bytes() for name in {row["file"] for row in rows}}
        return [read[row["file"]][4096 * row["page"]:][:row["bytes"]] for row in rows]

    kept, gone = images("keep"), images("purge")
    assert kept and len(gone) == len(kept)
    purged = fathomd("purge", str(directory), "--user", "purge")
    assert purged.returncode == 0, purged.stderr
    files = b"".join(path.read_bytes() for path in sorted(directory.rglob("*.seg")))
    theirs = b"".join(kept)  # the first layer knows nothing but the token: some of it is equal
    pieces = [image[at:at + 64] for image in gone for at in range(0, len(image) - 64, 8192)]
    own = [piece for piece in pieces if len(set(piece)) >= 8 and piece not in theirs][:16]
    assert len(own) > 10
    assert not any(piece in files for piece in own), "a part of it is still there"
    assert images("keep") == kept and images("purge") == []
    server = cpu(directory=directory)
    for user, found in (("purge", 0), ("keep", 256)):
        own = user + LONG
        for scope in ({}, {"cache_salt": "s"}):
            hit = ask(server, "three", system=own, user_id=user, **scope)["hit"]
            assert hit == 0 if found == 0 else hit >= found, (user, scope, hit)


# ---- what may break, and the daemon serves on ------------------------------------------------------


def degraded(server):
    return json.loads(server.get("/ready")).get("cache_disk")


def told_of_disk(server):
    return [event for event in server.events if event.get("event") == "cache_disk"]


def assert_says_so(server, states):
    """Log, metric and /ready agree that the disk is not well; requests are answered."""
    trouble = wait_until(lambda: degraded(server), lambda: "nothing in /ready")
    assert trouble["state"] in states and trouble["why"], trouble
    assert server.metrics()['cache_disk_state{state="%s"}' % trouble["state"]] == 1
    wait_until(lambda: any(e["level"] == "warn" and e["why"] for e in told_of_disk(server)),
               lambda: "nothing in the log")
    ask(server, "still here?", user_id="late")
    assert ask(server, "still here!", user_id="late")["hit"] >= 256


def test_a_directory_that_others_may_enter_is_not_used(cpu, tmp_path):
    directory = tmp_path / "cache"
    directory.mkdir(mode=0o755)
    server = cpu(directory=directory)
    assert_says_so(server, {"off"})
    assert not any(directory.iterdir())


def test_a_directory_that_cannot_be_made_is_done_without(cpu, tmp_path):
    (tmp_path / "file").write_text("")
    assert_says_so(cpu(directory=tmp_path / "file" / "cache"), {"off"})


def test_a_directory_that_another_daemon_has_is_done_without(cpu, tmp_path):
    first = cpu(directory=tmp_path / "cache")
    assert_says_so(cpu(directory=tmp_path / "cache"), {"off"})
    assert not degraded(first)


def test_a_directory_that_vanishes_is_done_without(cpu, tmp_path):
    server = cpu("--cache-disk-after", "0s", directory=tmp_path / "cache")
    assert not degraded(server)
    ask(server, "one")
    shutil.rmtree(tmp_path / "cache")
    for i in range(10):
        ask(server, "two", user_id=str(i))
    assert_says_so(server, {"off", "read-only"})


@pytest.fixture
def mounted(tmp_path):
    """mounted("16m"): a file system of that size, where the tests may mount one."""
    made = []

    def mount(size, kind="tmpfs"):
        place = tmp_path / "disk"
        place.mkdir()
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        else:
            image = tmp_path / "image"
            subprocess.run(["truncate", "-s", size, str(image)], check=True)
            if shutil.which("mkfs.ext4") is None:
                pytest.skip("there is no mkfs.ext4")
            subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
            command = ["mount", "-o", "loop", str(image), str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        made.append(place)
        return place

    yield mount
    for place in made:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_done_without(cpu, mounted):
    place = mounted("256k")
    server = cpu(directory=place / "cache")
    assert_says_so(server, {"off", "read-only"})


def test_a_disk_that_stalls_is_waited_for_by_nobody(cpu, mounted):
    place = mounted("256M", kind="ext4")
    server = cpu("--cache-disk-after", "0s", directory=place / "cache")
    assert not degraded(server)
    for i in range(3):
        ask(server, "one", user_id=str(i))
        ask(server, "two", user_id=str(i))
    if subprocess.run(["fsfreeze", "-f", str(place)], capture_output=True).returncode:
        pytest.skip("nothing can be frozen here")
    try:
        for i in range(20, 26):
            ask(server, "one", user_id=str(i))
            ask(server, "two", user_id=str(i))
        assert ask(server, "three", user_id="25")["hit"] >= 256
        assert_says_so(server, {"stalled", "read-only", "off"})
    finally:
        subprocess.run(["fsfreeze", "-u", str(place)], check=True)
    if degraded(server) and degraded(server)["state"] == "stalled":
        wait_until(lambda: not degraded(server) or degraded(server)["state"] != "stalled")
