"""What the dashboard and the documents ask for is there to be had."""

import json
import re
import subprocess
import sys

import pytest

from conftest import ROOT
from raw import chat

GRAFANA = ROOT / "docs" / "grafana"
SUFFIX = re.compile("_(bucket|sum|count)$")


@pytest.fixture(scope="module")
def series(scripted):
    """{name: [labels]} of everything on /metrics."""
    scripted.post("/v1/chat/completions", chat(max_tokens=3))
    found = {}
    for line in scripted.get("/metrics").splitlines():
        if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line):
            found.setdefault(match[1], []).append(dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")))
    return found


def expressions():
    dashboard = json.loads((GRAFANA / "fathom.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_the_dashboard_is_what_its_program_prints():
    made = subprocess.run([sys.executable, GRAFANA / "make_dashboard.py"], capture_output=True, check=True, text=True)
    assert made.stdout == (GRAFANA / "fathom.json").read_text()
    assert len(made.stdout) < 40_000


def test_panels_have_their_own_place_and_number():
    panels = json.loads((GRAFANA / "fathom.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 25
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_every_series_the_dashboard_asks_for_exists(series):
    asked = 0
    for title, expr in expressions():
        assert expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}"), expr
        for name, labels in re.findall(r"(fathom_\w+)(?:\{([^}]*)\})?", expr):
            asked += 1
            assert name in series, f"{title}: {name}"
            wanted = re.findall(r'(\w+)(=~|=)"([^"]*)"', labels)
            assert len(wanted) == len([x for x in labels.split(",") if x]), labels
            for label, how, value in wanted:
                if label == "tenant":  # without keys there is none; TENANTS of the next test
                    continue
                values = {found.get(label) for found in series[name]}
                if value.startswith("$"):
                    assert None not in values, f"{title}: {name} has no label {label}"
                elif how == "=":
                    assert value in values, f"{title}: {name}{{{label}}} is never {value}"
                else:
                    for one in value.split("|"):
                        assert any(re.fullmatch(one, v or "") for v in values), f"{title}: {name}: {one}"
        for group in re.findall(r" by \(([^)]*)\)", expr):
            names = re.findall(r"fathom_\w+", expr)
            for label in group.split(","):
                assert label == "tenant" or any(label in found for n in names for found in series[n]), expr
    assert asked > 60


def test_what_is_asked_by_tenant_is_told_by_tenant():
    rows = re.findall(r'^TENANT_\w+\(\w+, "(\w+)"', (ROOT / "config" / "metrics.def").read_text(), re.M)
    by_tenant = {name for _, expr in expressions() if "tenant" in expr
                 for name in re.findall(r"fathom_(\w+)\{", expr)}
    assert by_tenant and by_tenant <= set(rows)


def test_names_in_the_document_exist(series):
    text = (ROOT / "docs" / "WATCHING.md").read_text()
    known = set(series) | {SUFFIX.sub("", name) for name in series}
    named = set(re.findall(r"fathom_\w+", text))
    assert len(named) > 40
    assert not {name for name in named if name not in known and not name.endswith("_")}


def test_log_fields_in_the_document_are_those_of_a_line(serve):
    server = serve("--backend", "cpu", "--cache-host", "64MiB")
    with_trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    for _ in range(2):  # the second one finds the first one's prompt
        server.client().chat.completions.create(model="pilot", max_tokens=2, extra_headers=with_trace,
                                                messages=[{"role": "user", "content": "one two " * 200}])
    server.stop()
    line = server.requests_logged()[-1]
    text = (ROOT / "docs" / "WATCHING.md").read_text()
    table = text[text.index("## The log"): text.index("## Usage records")]
    documented = {name for row in re.findall(r"^\| (.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert set(line) <= documented and documented - set(line) <= {"key_id"}
