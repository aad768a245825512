#!/usr/bin/env python3
"""Prints fathom.json, the Grafana dashboard: rows of panels, each a line of this table.

    docs/grafana/make_dashboard.py >docs/grafana/fathom.json
"""

import json

ALL = '{model=~"$model"}'


def of(**labels):
    """Label matchers of a series, with the chosen models."""
    return "{" + ",".join(['model=~"$model"'] + [f'{name}{match}' for name, match in labels.items()]) + "}"


def rate(name, by="", **labels):
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate(fathom_{name}{of(**labels)}[$__rate_interval]))"


def total(name, by="", **labels):
    group = f" by ({by})" if by else ""
    return f"sum{group} (fathom_{name}{of(**labels)})"


def quantile(share, name):
    return f"histogram_quantile({share}, {rate(name + '_bucket', by='le')})"


def mean(name):
    return f"{rate(name + '_sum')} / {rate(name + '_count')}"


def percentiles(name):
    return [(quantile(0.5, name), "p50"), (quantile(0.9, name), "p90"), (quantile(0.99, name), "p99")]


HIT_SHARE = f"{rate('prefix_cache_hit_tokens_total')} / {rate('prefix_cache_query_tokens_total')}"
TENANT = '=~"$tenant"'

# (title, unit, kind, [(expression, legend)]); kind: lines, stack, stat
ROWS = [
    ("Load", [
        ("Requests running", "short", "stat", [(total("requests_running"), "running")]),
        ("Requests waiting", "short", "stat", [(total("requests_waiting"), "waiting")]),
        ("Tokens written", "short", "stat", [(rate("generation_tokens_total"), "tokens/s")]),
        ("First token, p99", "s", "stat", [(quantile(0.99, "time_to_first_token_seconds"), "p99")]),
        ("Cache hits", "percentunit", "stat", [(HIT_SHARE, "share of prompt tokens")]),
        ("KV in use", "percentunit", "stat", [(f"max (fathom_kv_cache_usage_ratio{ALL})", "share")]),
        ("Requests", "short", "lines", [(total("requests_running"), "running"),
                                        (total("requests_waiting"), "waiting")]),
        ("Tokens a second", "short", "lines", [(rate("prompt_tokens_total"), "prompt"),
                                               (rate("generation_tokens_total"), "written")]),
        ("Requests by outcome", "reqps", "stack", [(rate("requests_total", "outcome"), "{{outcome}}")]),
        ("Errors and refusals", "reqps", "stack", [
            (rate("requests_total", "outcome", outcome='=~"error|refused_.*|deadline|slow_client"'), "{{outcome}}"),
            (rate("http_rejects_total", "reason"), "rejected: {{reason}}"),
            (rate("auth_failures_total", "reason"), "key: {{reason}}")]),
    ]),
    ("Latency", [
        ("Time to first token", "s", "lines", percentiles("time_to_first_token_seconds")),
        ("Between tokens", "s", "lines", percentiles("inter_token_seconds")),
        ("Whole request", "s", "lines", percentiles("request_seconds")),
        ("Where the time goes, mean", "s", "stack", [
            (mean("parse_seconds"), "parse"), (mean("queue_seconds"), "queue"),
            (mean("prefill_seconds"), "prefill"), (mean("decode_seconds"), "decode")]),
        ("Prompt and answer, p50 and p99", "short", "lines", [
            (quantile(0.5, "prompt_tokens"), "prompt p50"), (quantile(0.99, "prompt_tokens"), "prompt p99"),
            (quantile(0.5, "output_tokens"), "answer p50"), (quantile(0.99, "output_tokens"), "answer p99")]),
        ("Engine step", "s", "lines", percentiles("engine_step_seconds")),
    ]),
    ("Tenants", [
        ("Tokens written", "short", "lines", [(rate("generation_tokens_total", "tenant", tenant=TENANT), "{{tenant}}")]),
        ("Prompt tokens", "short", "lines", [(rate("prompt_tokens_total", "tenant", tenant=TENANT), "{{tenant}}")]),
        ("Running", "short", "stack", [(total("requests_running", "tenant", tenant=TENANT), "{{tenant}}")]),
        ("Waiting", "short", "stack", [(total("requests_waiting", "tenant", tenant=TENANT), "{{tenant}}")]),
        ("Refused by their limits", "reqps", "lines", [
            (rate("requests_total", "tenant", tenant=TENANT, outcome='="refused_429"'), "{{tenant}}")]),
        ("Refused, by limit", "reqps", "stack", [(rate("limit_refusals_total", "limit"), "{{limit}}")]),
        ("Left by their clients", "reqps", "lines", [
            (rate("requests_total", "tenant", tenant=TENANT, outcome='="client_gone"'), "{{tenant}}")]),
    ]),
    ("Prefix cache and memory", [
        ("Prompt tokens by where they came from", "short", "stack", [
            (rate("cache_hit_tokens_total", "tier"), "{{tier}}"), (rate("cache_cold_tokens_total"), "computed"),
            (rate("cache_replayed_tokens_total"), "computed for a window")]),
        ("KV blocks", "short", "lines", [(total("kv_blocks_used"), "used"), (total("kv_blocks"), "there are")]),
        ("Cached bytes", "bytes", "stack", [(total("cache_bytes", "object,tier"), "{{object}} {{tier}}")]),
        ("Evictions and preemptions", "short", "lines", [
            (rate("cache_evicted_total", "tier"), "evicted: {{tier}}"), (rate("preemptions_total"), "preempted")]),
        ("Why prompts missed", "short", "stack", [(rate("cache_misses_total", "reason"), "{{reason}}")]),
        ("Cache disk", "Bps", "lines", [(rate("cache_disk_bytes_total", "kind"), "{{kind}}")]),
    ]),
    ("The daemon", [
        ("Connections", "short", "stack", [(total("connections", "state"), "{{state}}")]),
        ("Server loop and engine to socket, p99", "s", "lines", [
            (quantile(0.99, "loop_lag_seconds"), "one turn"),
            (quantile(0.99, "engine_to_socket_seconds"), "engine to socket"),
            (quantile(0.99, "cancel_to_free_seconds"), "hang-up to free blocks"),
            (quantile(0.99, "mask_seconds"), "one mask")]),
        ("Memory of bodies; descriptors", "short", "lines", [(total("body_bytes"), "bytes"), (total("open_fds"), "descriptors")]),
        ("Not as it should be", "short", "lines", [
            ("sum (rate(fathom_log_lines_dropped_total[$__rate_interval]))", "log lines dropped"),
            (rate("usage_records_total", result='="lost"'), "usage records lost"),
            (rate("reply_repairs_total", "kind"), "mended: {{kind}}"),
            (rate("stream_ring_full_total"), "slow readers"),
            (rate("config_reloads_total", result='="failed"'), "reloads failed"),
            (rate("cache_differing_total"), "cache hits that differ")]),
    ]),
]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, title, unit, kind, queries, place):
    targets = [{"refId": chr(65 + i), "expr": expr, "legendFormat": legend}
               for i, (expr, legend) in enumerate(queries)]
    defaults = {"unit": unit, "min": 0}
    if kind != "stat":
        defaults["custom"] = {"fillOpacity": 20 if kind == "stack" else 0, "showPoints": "never",
                              "stacking": {"mode": "normal" if kind == "stack" else "none"}}
    options = {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}}
    if kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    return {"id": number, "type": "stat" if kind == "stat" else "timeseries", "title": title,
            "datasource": SOURCE, "gridPos": place, "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}


def panels():
    made, y = [], 0
    for title, row in ROWS:
        made.append({"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        x, y, last = 0, y + 1, 0
        for name, unit, kind, queries in row:
            w, h = (4, 4) if kind == "stat" else (12, 8)
            if x + w > 24 or (last and h != last):
                x, y = 0, y + last
            made.append(panel(len(made) + 1, name, unit, kind, queries, {"x": x, "y": y, "w": w, "h": h}))
            x, last = x + w, h
        y += last
    return made


def variable(name, label, query, everything):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query,
            "definition": query, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
            "allValue": everything, "current": {"text": "All", "value": "$__all"}}


DASHBOARD = {
    "uid": "fathom", "title": "Fathom", "tags": ["fathom", "inference"], "schemaVersion": 39,
    "timezone": "browser", "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "editable": True,
    "templating": {"list": [
        {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus", "current": {}},
        variable("model", "Model", "label_values(fathom_requests_running, model)", ".*"),
        variable("tenant", "Tenant", "label_values(fathom_requests_running, tenant)", ".*"),
    ]},
    "panels": panels(),
}

if __name__ == "__main__":
    print(json.dumps(DASHBOARD, separators=(",", ":")).replace('},{"id":', '},\n{"id":'))  # a panel a line
