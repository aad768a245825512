"""Random JSON Schemas: whatever is written under their masks validates, and whatever validates is
taken. jsonschema is the judge of both."""

import json
import lzma
import os
import pathlib
import random
import re
import subprocess

import pytest

from random_schemas import HOSTILE, any_value, judge, schema_number, some_tools
from waiting import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parent.parent
FATHOMD = pathlib.Path(os.environ.get("FATHOMD", ROOT / "build" / "fathomd"))
BUILD = FATHOMD.parent
TOOL = pathlib.Path(os.environ.get("GRAMMAR_TOOL", BUILD / "engine" / "grammar" / "grammar_tool"))
SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared"))
TOKENIZER = pathlib.Path(os.environ.get("GRAMMAR_TOKENIZER", ROOT / "models/pilot/tokenizer.json"))
SCHEMAS = int(os.environ.get("GRAMMAR_SCHEMAS", "150"))


class Tool:
    def __init__(self, tokenizer=TOKENIZER):
        self.process = subprocess.Popen(
            [TOOL, tokenizer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def ask(self, **line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def tool():
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not built")
    made = Tool()
    yield made
    made.process.stdin.close()
    assert made.process.wait(timeout=PATIENCE) == 0


@pytest.fixture(scope="module")
def real_tool(tmp_path_factory):
    """The same with the vocabulary of the release."""
    packed = SHARED / "fixtures" / "tokenizer" / "tokenizer_v4.json.xz"
    if not packed.exists():
        pytest.skip(f"{packed} is absent")
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not built")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(lzma.open(packed).read())
    made = Tool(path)
    yield made
    made.process.stdin.close()
    assert made.process.wait(timeout=PATIENCE) == 0


def spelled(r, value):
    """In the ways that writers do: compact, with spaces, over several lines."""
    style = r.randrange(3)
    return json.dumps(value, ensure_ascii=False, indent=r.choice([2, 4]) if style == 0 else None,
                      separators=(",", ":") if style == 1 else None)


def once(pairs):
    return dict(pairs)


@pytest.mark.parametrize("part", range(5))
def test_what_is_written_validates(tool, part):
    asked = finished = 0
    for seed in range(part, SCHEMAS, 5):
        r, schema, _ = schema_number(seed)
        answer = tool.ask(schema=schema, write=12, tokens=r.choice([5, 40, 120]), seed=seed)
        assert "texts" in answer, (schema, answer)
        asked, finished = asked + 12, finished + len(answer["texts"])
        for text in answer["texts"]:
            value = json.loads(text, object_pairs_hook=once)
            errors = [e.message for e in judge(schema).iter_errors(value)]
            assert not errors, (seed, schema, text, errors)
    assert finished > asked * 0.95


@pytest.mark.parametrize("part", range(5))
def test_what_validates_is_taken(tool, part):
    for seed in range(part, SCHEMAS, 5):
        r, schema, made = schema_number(seed)
        values = [made(r) for _ in range(12)]
        values = [v for v in values if not list(judge(schema).iter_errors(v))]
        texts = [spelled(r, v) for v in values]
        answer = tool.ask(schema=schema, take=texts)
        assert "taken" in answer, (schema, answer)
        for text, taken in zip(texts, answer["taken"]):
            assert taken or is_outside(text), (seed, schema, text)


def is_outside(text):
    """What no grammar writes: a mark of the reply's format as plain text."""
    return "</think>" in text or "｜DSML｜" in text


@pytest.mark.parametrize("part", range(5))
def test_what_does_not_validate_is_not_taken(tool, part):
    """Values made for other schemas, and damaged texts."""
    for seed in range(part, SCHEMAS, 5):
        r, schema, made = schema_number(seed)
        _, _, other = schema_number(seed + 1)
        texts = [spelled(r, other(r)) for _ in range(6)]
        for text in [spelled(r, made(r)) for _ in range(6)]:
            at = r.randrange(len(text) + 1)
            texts.append(text[:at] + r.choice(['"', "}", "]", ",", "x", "", "1"]) + text[at + 1:])
        answer = tool.ask(schema=schema, take=texts)
        for text, taken in zip(texts, answer["taken"]):
            if not taken:
                continue
            value = json.loads(text)
            assert not list(judge(schema).iter_errors(value)), (seed, schema, text)


def test_any_object_is_taken_and_nothing_else(tool):
    r = random.Random(7)
    values = [any_value(r, 4) for _ in range(300)]
    texts = [json.dumps(v, ensure_ascii=r.random() < 0.5, indent=r.choice([None, 1])) for v in values]
    answer = tool.ask(schema=None, take=texts)
    assert answer["taken"] == [isinstance(v, dict) for v in values]
    for text in tool.ask(schema=None, write=100, tokens=100, seed=3)["texts"]:
        assert isinstance(json.loads(text), dict)


def test_the_release_s_vocabulary_writes_and_takes_the_same(real_tool):
    for seed in range(0, SCHEMAS, 3):
        r, schema, made = schema_number(seed)
        for text in real_tool.ask(schema=schema, write=5, tokens=30, seed=seed)["texts"]:
            errors = [e.message for e in judge(schema).iter_errors(json.loads(text))]
            assert not errors, (seed, schema, text, errors)
        values = [v for v in (made(r) for _ in range(5)) if judge(schema).is_valid(v)]
        texts = [spelled(r, v) for v in values]
        for text, taken in zip(texts, real_tool.ask(schema=schema, take=texts)["taken"]):
            assert taken or is_outside(text), (seed, schema, text)


def test_masks_say_what_each_token_would(tool, real_tool):
    for seed in range(40):
        _, schema, _ = schema_number(seed)
        assert tool.ask(schema=schema, exact=200, seed=seed) == {"exact": True}, (seed, schema)
        assert real_tool.ask(schema=schema, exact=4, seed=seed) == {"exact": True}, (seed, schema)
    counted = {"type": "string", "pattern": "^[^x]{1,90}$"}
    assert real_tool.ask(schema=counted, exact=20, seed=5) == {"exact": True}


# ---- tool calls, read back by the daemon's own parser


def read_back(tmp_path, tools, start, texts):
    lines = [{"text": text, "thinking": start == "reasoning", "tools": tools,
              **({"start": "in_block"} if start == "block" else {})} for text in texts]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = subprocess.run([FATHOMD, "parse", path], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("vocabulary", ["pilot", "release"])
def test_every_call_names_a_tool_and_its_arguments_validate(vocabulary, request, tmp_path):
    asked = request.getfixturevalue("tool" if vocabulary == "pilot" else "real_tool")
    seeds, finished = 60 if vocabulary == "pilot" else 15, 0
    for seed in range(seeds):
        r = random.Random(seed)
        tools, start = some_tools(r), r.choice(["block", "content", "reasoning"])
        answer = asked.ask(tools=tools, start=start, required=True, write=8, tokens=60, seed=seed)
        assert "texts" in answer, (tools, answer)
        by_name = {tool["name"]: tool for tool in tools}
        finished += len(answer["texts"])
        for text, reply in zip(answer["texts"], read_back(tmp_path, tools, start, answer["texts"])):
            assert reply["tool_calls"] and reply["finish_reason"] == "tool_calls", (seed, text)
            assert "DSML" not in reply["content"], (seed, text)
            for call in reply["tool_calls"]:
                declared = by_name[call["name"]]
                arguments = json.loads(call["arguments"])
                schema = declared["parameters"]
                if not declared["strict"]:
                    schema = {**schema, "properties": {n: {} for n in schema["properties"]}}
                errors = [e.message for e in judge(schema).iter_errors(arguments)]
                assert not errors, (seed, tools, text, errors)
    assert finished > seeds * 8 * 0.9


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_or_bounded(name):
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not built")
    line = json.dumps({"schema": HOSTILE[name](), "take": ["{}", "[" * 300, '"a"']}) + "\n"
    run = subprocess.run(["bash", "-c", f"ulimit -v 2000000; exec {TOOL} {TOKENIZER}"], input=line,
                         capture_output=True, text=True, timeout=PATIENCE)
    if "AddressSanitizer" in run.stderr:
        pytest.skip("the address sanitizer wants more memory than the test allows")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert "taken" in answer or re.match(r"schema|invalid|JSON", answer["error"]), answer
