"""/metrics counts what happened, in a format that scrapers read; and every request has one log line."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

import keyfile
from conftest import ROOT
from raw import Raw, chat, post
from waiting import wait_until

CHAT = "/v1/chat/completions"
SPEC = {  # every row of the table in the server's design, and its type
    "requests_running": "gauge", "requests_waiting": "gauge", "kv_cache_usage_ratio": "gauge",
    "prefix_cache_query_tokens_total": "counter", "prefix_cache_hit_tokens_total": "counter",
    "prompt_tokens_total": "counter", "generation_tokens_total": "counter", "requests_total": "counter",
    "preemptions_total": "counter", "time_to_first_token_seconds": "histogram",
    "inter_token_seconds": "histogram", "request_seconds": "histogram", "queue_seconds": "histogram",
    "prefill_seconds": "histogram", "decode_seconds": "histogram", "prompt_tokens": "histogram",
    "output_tokens": "histogram", "cancel_to_free_seconds": "histogram", "loop_lag_seconds": "histogram",
    "engine_to_socket_seconds": "histogram", "parse_seconds": "histogram", "mask_seconds": "histogram",
    "step_mask_seconds": "histogram",
    "connections": "gauge", "open_fds": "gauge", "body_bytes": "gauge", "stream_ring_full_total": "counter",
    "http_rejects_total": "counter", "auth_failures_total": "counter", "config_reloads_total": "counter",
    "build_info": "gauge", "reply_repairs_total": "counter", "usage_records_total": "counter",
}
OUTCOMES = {"stop", "length", "tool_calls", "client_gone", "slow_client", "deadline", "refused_429",
            "refused_503", "bad_request", "error"}
VLLM = {
    "num_requests_running": "gauge", "num_requests_waiting": "gauge", "kv_cache_usage_perc": "gauge",
    "prefix_cache_queries_total": "counter", "prefix_cache_hits_total": "counter",
    "prompt_tokens_total": "counter", "generation_tokens_total": "counter",
    "request_success_total": "counter", "num_preemptions_total": "counter",
    "time_to_first_token_seconds": "histogram", "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram", "request_queue_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram", "request_decode_time_seconds": "histogram",
    "request_prompt_tokens": "histogram", "request_generation_tokens": "histogram",
}


def families(text):
    """What Prometheus' own client reads, by the names of the TYPE lines."""
    typed = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    helped = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP ")]
    read = list(text_string_to_metric_families(text))
    assert len(typed) == len(set(typed)), "a name is described twice"
    assert typed == helped and len(read) == len(typed)
    return dict(zip(typed, read))


def check_family(name, family):
    """What the format asks of each kind."""
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name)
    assert family.documentation and family.samples, name
    assert (family.type == "counter") == name.endswith("_total"), name
    seen = set()
    for sample in family.samples:
        series = (sample.name, tuple(sorted(sample.labels.items())))
        assert series not in seen, f"{series} stands there twice"
        seen.add(series)
        assert family.type == "gauge" or sample.value >= 0
        if family.type != "histogram":
            assert sample.name == name
    if family.type == "histogram":
        check_histogram(name, family)


def check_histogram(name, family):
    count = [s.value for s in family.samples if s.name == name + "_count"]
    total = [s.value for s in family.samples if s.name == name + "_sum"]
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name == name + "_bucket"]
    assert len(count) == len(total) == 1 and len(buckets) == len(family.samples) - 2
    assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets)
    assert buckets[-1] == (float("inf"), count[0]), name


def test_prometheus_own_parser_reads_every_family(scripted):
    for stream in (False, True):
        with Raw(scripted) as raw:
            raw.say(post(CHAT, chat(max_tokens=5, stream=stream)))
            assert raw.answer()[0] == 200
    found = families(scripted.get("/metrics"))
    for name, family in found.items():
        assert name.startswith("fathom_")
        check_family(name, family)
    types = {name.removeprefix("fathom_"): family.type for name, family in found.items()}
    assert {name: types.get(name) for name in SPEC} == SPEC
    assert {s.labels["outcome"] for s in found["fathom_requests_total"].samples} == OUTCOMES
    build = found["fathom_build_info"].samples[0].labels
    assert set(build) == {"version", "libmicrohttpd", "revision"} and all(build.values())
    for family in found.values():
        for sample in family.samples:
            assert "tenant" not in sample.labels, "there is no tenant to tell apart"
            assert sample.labels.get("model", "pilot") == "pilot"


def test_every_row_of_the_table_is_on_the_page_with_its_type_and_help(scripted):
    row = re.compile(r'^(?:TENANT_)?(COUNTER|GAUGE|HISTOGRAM)\(\w+, "(\w+)",(.*?)"([^"]*)"\)$', re.M)
    found, told = families(scripted.get("/metrics")), set()
    for kind, name, middle, text in row.findall((ROOT / "config" / "metrics.def").read_text()):
        family = found["fathom_" + name]
        assert family.type == kind.lower(), name
        if name not in told:
            assert text and family.documentation == text, name
        told.add(name)
        labels = dict(re.findall(r'(\w+)=\\"([^"\\]*)\\"', middle))
        assert any(labels.items() <= sample.labels.items() for sample in family.samples), (name, labels)
    others = {"fathom_build_info", "fathom_log_lines_dropped_total"}
    assert {"fathom_" + name for name in told} == set(found) - others and others <= set(found)


def test_the_page_says_what_it_is(scripted):
    with Raw(scripted) as raw:
        raw.say(b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n")
        status, headers, body = raw.answer()
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert body.endswith(b"\n")


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


def test_the_engines_own_steps_are_counted(serve):
    server = serve("--backend", "cpu")
    server.post("/v1/chat/completions", chat("hello", max_tokens=8, temperature=0, ignore_eos=True))
    now = server.wait_idle()
    assert now["engine_steps_total"] == now["engine_step_seconds_count"] == 8
    assert now["engine_step_tokens_total"] == now["prompt_tokens_total"] + 7
    assert now["prefill_seconds_sum"] > 0 and now["decode_seconds_sum"] > 0
    parts = [now[name + "_seconds_sum"] for name in ("parse", "queue", "prefill", "decode")]
    assert sum(parts) == pytest.approx(now["request_seconds_sum"], rel=0.2)


def test_calls_that_come_back_are_counted(serve):
    server = serve("--backend", "cpu")
    weather = {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
    body = chat("What is the weather in Oslo?", temperature=0, tools=[weather], thinking=False)
    message = server.post("/v1/chat/completions", body)["choices"][0]["message"]
    for call_id in (message["tool_calls"][0]["id"], "call_of_somebody_else"):
        message["tool_calls"][0]["id"] = call_id
        turn = [message, {"role": "tool", "tool_call_id": call_id, "content": "4"}]
        server.post("/v1/chat/completions", {**body, "messages": body["messages"] + turn})
    now = server.wait_idle()
    assert now["tool_memory_blocks"] == 1 and now["tool_memory_bytes"] > 50
    assert now['tool_memory_lookups_total{result="found"}'] == 1
    assert now['tool_memory_lookups_total{result="missed"}'] == 1


def test_dashboards_made_for_vllm_find_their_names(serve):
    server = serve("--metrics-compat", "vllm")
    server.post("/v1/chat/completions", chat("hello", max_tokens=8))
    server.wait_idle()
    text = server.get("/metrics")
    found = {name.removeprefix("vllm:"): family for name, family in families(text).items()
             if name.startswith("vllm:")}
    for name, family in found.items():
        check_family("vllm:" + name, family)
    assert {name: family.type for name, family in found.items()} == VLLM
    assert 'vllm:request_success_total{model_name="pilot",finished_reason="length"} 1\n' in text
    assert 'vllm:generation_tokens_total{model_name="pilot"} 8\n' in text
    assert 'vllm:num_requests_running{model_name="pilot"} 0\n' in text
    assert 'vllm:e2e_request_latency_seconds_count{model_name="pilot"} 1\n' in text
    assert "vllm:" not in serve().get("/metrics")


def scrape(server, key=None):
    head = [f"Authorization: Bearer {key}"] if key else []
    with Raw(server) as raw:
        raw.say("\r\n".join(["GET /metrics HTTP/1.1", "Host: a", *head]) + "\r\n\r\n")
        status, _, body = raw.answer()
    return status, body.decode()


def ask(server, key, body):
    with Raw(server) as raw:
        raw.say(post(CHAT, body, f"Authorization: Bearer {key}"))
        return raw.answer()[0]


def test_tenants_are_told_apart_and_only_those_of_the_file(serve, tmp_path):
    alice, first = keyfile.make_key("id-alice", "alice", scopes=["api"])
    bob, second = keyfile.make_key("id-bob", "bob", scopes=["api"])
    watch, third = keyfile.make_key("id-watch", "watch", scopes=["metrics"])
    tenants = [{"name": name} for name in ("alice", "bob", "idle", "watch")]
    file = keyfile.write_file(tmp_path / "keys", tenants, [first, second, third])
    usage = tmp_path / "usage"
    server = serve("--keys", str(file), "--usage-log", str(usage))
    for _ in range(3):
        assert ask(server, alice, chat("hello", max_tokens=4)) == 200
    assert ask(server, bob, chat("hello", max_tokens=7, user_id="somebody")) == 200
    assert ask(server, bob, b"{") == 400
    assert ask(server, "fathom_id-bob." + "0" * 64, chat()) == 401
    assert ask(server, watch, chat()) == 403  # a key for metrics alone

    status, text = scrape(server, watch)
    assert status == 200
    found = families(text)

    def told(name, **labels):
        return {s.labels.get("tenant"): s.value for s in found["fathom_" + name].samples
                if labels.items() <= s.labels.items()}

    assert told("generation_tokens_total") == {None: 0, "alice": 12, "bob": 7, "idle": 0, "watch": 0}
    assert told("requests_total", outcome="length") == {None: 0, "alice": 3, "bob": 1, "idle": 0, "watch": 0}
    assert told("requests_total", outcome="bad_request") == {None: 1, "alice": 0, "bob": 1, "idle": 0, "watch": 1}
    assert told("requests_running") == told("requests_waiting") == \
        {None: 0, "alice": 0, "bob": 0, "idle": 0, "watch": 0}
    assert told("auth_failures_total", reason="wrong") == told("auth_failures_total", reason="scope") == {None: 1}
    with_tenants = {name for name, family in found.items()
                    if any("tenant" in s.labels for s in family.samples)}
    assert with_tenants == {"fathom_" + name for name in (
        "requests_running", "requests_waiting", "prompt_tokens_total", "generation_tokens_total",
        "tenant_cache_bytes",
        "requests_total")}

    server.stop()
    records = [json.loads(line) for line in usage.read_text().splitlines()]
    for tenant in ("alice", "bob", "watch"):  # the account agrees, tenant by tenant
        own = [record for record in records if record["tenant"] == tenant]
        assert {record["key_id"] for record in own} == {f"id-{tenant}"}
        assert sum(record["output_tokens"] for record in own) == told("generation_tokens_total")[tenant]
        assert sum(record["prompt_tokens"] for record in own) == told("prompt_tokens_total")[tenant]
        for outcome in OUTCOMES:
            assert sum(record["outcome"] == outcome for record in own) == \
                told("requests_total", outcome=outcome)[tenant]
    assert len(records) == 6  # nobody pays for a wrong key
    lines = [event for event in server.requests_logged() if event["route"] == "/chat/completions"]
    assert [(line.get("tenant"), line.get("key_id")) for line in lines] == \
        [("alice", "id-alice")] * 3 + [("bob", "id-bob")] * 2 + [(None, None), ("watch", "id-watch")]


def test_requests_held_by_a_limit_are_waiting_ones(serve, tmp_path):
    [key] = keyfile.make_file(tmp_path / "keys", {"name": "acme", "limits": {"running": 1, "queued": 1}},
                              scopes=["api", "metrics"])
    usage = tmp_path / "usage"
    server = serve("--keys", str(tmp_path / "keys"), "--usage-log", str(usage),
                   script=[{"step_us": 1000, "generate": 1000000}])
    bearer = f"Authorization: Bearer {key}"

    def told(name):
        text = scrape(server, key)[1]
        return float(re.search(rf'^fathom_{name}{{model="pilot"[^}}]*tenant="acme"}} (\S+)$', text, re.M)[1])

    def comes_to(running, waiting):
        def found():
            return told("requests_running"), told("requests_waiting")

        wait_until(lambda: found() == (running, waiting), found)

    with Raw(server) as first, Raw(server) as second, Raw(server) as third:
        first.say(post(CHAT, chat(max_tokens=100000, stream=True), bearer))
        comes_to(1, 0)
        second.say(post(CHAT, chat(max_tokens=100000, stream=True), bearer))
        comes_to(1, 1)
        third.say(post(CHAT, chat(max_tokens=100000), bearer))
        assert third.answer()[0] == 429
        first.socket.close()  # and the one that waited has its turn
        comes_to(1, 0)
    comes_to(0, 0)
    server.stop()
    outcomes = sorted(json.loads(line)["outcome"] for line in usage.read_text().splitlines())
    assert outcomes == ["client_gone", "client_gone", "refused_429"]


def test_with_keys_only_the_scope_metrics_reads_the_page(serve, tmp_path):
    api, record = keyfile.make_key("a", "t", scopes=["api"])
    watch, other = keyfile.make_key("b", "t", scopes=["metrics"])
    file = keyfile.write_file(tmp_path / "keys", [{"name": "t"}], [record, other])
    server = serve("--keys", str(file))
    assert scrape(server)[0] == 401
    assert scrape(server, api)[0] == 403
    assert scrape(server, watch)[0] == 200


def test_without_keys_other_machines_read_no_metrics(serve):
    server = serve("--listen", "0.0.0.0:0", "--insecure")
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    status, text = scrape(server)
    assert status == 403 and "admin socket" in text
    with Raw(server) as raw:
        raw.say(post(CHAT, chat(max_tokens=2)))
        assert raw.answer()[0] == 200


def test_connections_are_counted_by_what_they_wait_for(serve):
    server = serve(script=[{"step_us": 1000, "generate": 1000000}])

    def states():
        now = server.metrics()
        return {state: now[f'connections{{state="{state}"}}']
                for state in ("new", "reading", "working", "sending", "idle", "closing")}

    def comes_to(wanted):
        wait_until(lambda: states() == wanted, states)

    alone = {"new": 0, "reading": 0, "working": 0, "sending": 0, "idle": 0, "closing": 0}
    with Raw(server), Raw(server) as reading, Raw(server) as sending, Raw(server) as working, \
            Raw(server) as idle:
        idle.say(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.answer()[0] == 200
        reading.say(post(CHAT, chat(max_tokens=3))[:-5])
        sending.say(post(CHAT, chat(max_tokens=100000, stream=True)))
        sending.until(b"data: ")
        working.say(post(CHAT, chat(max_tokens=100000)))
        # the one that asks is being answered at once, which is none of the states to wait in
        comes_to({**alone, "new": 1, "reading": 1, "working": 2, "sending": 1, "idle": 1})
    comes_to({**alone, "working": 1})
    assert 5 < server.metrics()["open_fds"] < 200


def test_mended_replies_are_counted_by_what_was_wrong(scripted, serve):
    """The engine says what a grammar would not let it say."""
    said = "sure</｜DSML｜invoke>\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"add\">\n" \
        "<｜DSML｜parameter name=\"n\" string=\"false\">two</｜DSML｜parameter>\n</｜DSML｜tool_calls>"
    tokens = scripted.post("/tokenize", {"prompt": said, "add_special_tokens": False})["tokens"]
    server = serve(script=[{"prompt_has": [], "tokens": tokens, "finish": "stop"}])
    assert server.metrics()["reply_repairs_total"] == 0
    add = {"type": "function", "function": {"name": "add", "parameters": {
        "type": "object", "properties": {"n": {"type": "integer"}}}}}
    answer = server.post(CHAT, chat(tools=[add], thinking=False))
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"n": "two"}
    now = server.metrics()
    kinds = {kind: now[f'reply_repairs_total{{kind="{kind}"}}'] for kind in
             ("opener", "closer", "body", "value", "duplicate", "quoted", "stray")}
    assert kinds == {"opener": 0, "closer": 1, "body": 0, "value": 1, "duplicate": 0, "quoted": 0, "stray": 1}
