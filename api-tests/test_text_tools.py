"""The shell's view of the tokenizer against texts that others encoded with the real files."""

import gzip
import json
import lzma
import os
import pathlib
import subprocess

import pytest
from waiting import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared"))
FIXTURES = SHARED / "fixtures" / "tokenizer"
FATHOMD = os.environ.get("FATHOMD", str(ROOT / "build" / "fathomd"))


def tokenize(arguments, rows):
    """Runs the verb over rows and returns its rows."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    run = subprocess.run([FATHOMD, "tokenize", *arguments, "-"], input=lines.encode(),
                         capture_output=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr.decode()
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def cases():
    if not FIXTURES.is_dir():
        pytest.skip(f"{FIXTURES} is not there")
    with gzip.open(FIXTURES / "tokenize_cases.jsonl.gz", "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    assert len(found) == 1000
    return found


@pytest.fixture(scope="module")
def v4(cases, tmp_path_factory):
    """The model directory of V4: a tokenizer.json alone."""
    path = tmp_path_factory.mktemp("v4")
    (path / "tokenizer.json").write_bytes(lzma.open(FIXTURES / "tokenizer_v4.json.xz").read())
    return path


@pytest.fixture(scope="module")
def v41(v4, tmp_path_factory):
    """V4.1 differs from V4 in its added tokens alone."""
    document = json.loads((v4 / "tokenizer.json").read_bytes())
    document["added_tokens"] = json.loads((FIXTURES / "added_tokens_v41.json").read_bytes())
    path = tmp_path_factory.mktemp("v41") / "tokenizer.json"
    path.write_text(json.dumps(document))
    return path


def texts(cases):
    return [{"text": case["text"]} for case in cases]


def test_every_text_has_the_ids_of_v4(cases, v4):
    for case, got in zip(cases, tokenize(["--model", v4], texts(cases)), strict=True):
        assert got["ids"] == case["ids"], case["text"]


def test_every_text_has_the_ids_of_v41(cases, v41):
    assert any("ids_v41" in case for case in cases)
    for case, got in zip(cases, tokenize(["--tokenizer", v41], texts(cases)), strict=True):
        assert got["ids"] == case.get("ids_v41", case["ids"]), case["text"]


def test_the_ids_give_the_text_back(cases, v4):
    rows = [{"ids": case["ids"]} for case in cases]
    for case, got in zip(cases, tokenize(["--model", v4, "--decode"], rows), strict=True):
        assert got["text"] == case["text"]


def test_literal_text_holds_no_control_token(v4):
    user = [{"text": "<｜User｜>hi</think>"}]
    [marked] = tokenize(["--model", v4], user)
    [literal] = tokenize(["--model", v4, "--literal"], user)
    assert 128803 in marked["ids"] and 128822 in marked["ids"]
    assert max(literal["ids"]) < 128000
    assert tokenize(["--model", v4, "--decode"], [literal]) == user


@pytest.mark.parametrize("line, sentence", [
    ("{\"text\": 7}", "-:1: text: wanted a string"),
    ("[1]", "-:1: wanted an object"),
    ("{\"text\": \"a", "-:1: invalid JSON at line 1 column"),
])
def test_a_wrong_line_is_named(v4, line, sentence):
    run = subprocess.run([FATHOMD, "tokenize", "--model", v4, "-"], input=line.encode(),
                         capture_output=True, timeout=PATIENCE)
    assert run.returncode == 1
    assert sentence in run.stderr.decode()
