"""fathomd parse: what the model wrote, read in any cutting."""

import json
import os
import pathlib
import subprocess

import pytest
from waiting import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parent.parent
FATHOMD = pathlib.Path(os.environ.get("FATHOMD", ROOT / "build" / "fathomd"))
SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared"))
CASES = SHARED / "fixtures" / "chat-encoding" / "parse_cases.jsonl"
CUTTINGS = ["whole", "chars", "bytes"] + [f"random:{seed}" for seed in range(1, 21)]


def parse(path, *args, stdin=None):
    return subprocess.run(
        [FATHOMD, "parse", *args, path], input=stdin, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.mark.parametrize("cutting", CUTTINGS)
def test_every_case_reads_as_expected_in_this_cutting(cutting):
    if not CASES.exists():
        pytest.skip(f"{CASES} is absent")
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    run = parse(CASES, "--chunks", cutting)
    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == len(cases)
    for case, result in zip(cases, results):
        assert result == case["expect"], case["name"]


def test_a_line_from_standard_input_is_read():
    run = parse("-", stdin='{"text": "a</think>b", "thinking": true}\n')
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "reasoning": "a",
        "content": "b",
        "tool_calls": [],
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("{}", "text: is missing"),
        ('{"text": 1}', "text: found an integer, wanted a string"),
        ('{"text": "", "stop": [1]}', "stop[0]: found an integer, wanted a string"),
        ('{"text": "", "start": "in_block"}', "start: in_block needs tools"),
        ("[", "invalid JSON"),
        ("3", "found an integer, wanted an object"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line, sentence):
    run = parse("-", stdin='{"text": "fine"}\n' + line + "\n")
    assert run.returncode == 1
    assert "line 2: " in run.stderr and sentence in run.stderr
    assert len(run.stdout.splitlines()) == 1


@pytest.mark.parametrize("args", [["--chunks", "odd"], ["--chunks", "random:x"], ["--what"]])
def test_wrong_use_exits_with_2(args):
    assert parse("-", *args, stdin="").returncode == 2
