"""`fathomd encode` against the recorded prompts: every text and every token id."""

import hashlib
import json
import lzma
import os
import pathlib
import struct
import subprocess

import pytest
from waiting import PATIENCE

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared"))
CASES = SHARED / "fixtures" / "chat-encoding"
FATHOMD = os.environ.get("FATHOMD", str(ROOT / "build" / "fathomd"))

pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"recorded prompts are not there: {CASES}"
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """The tokenizer files by dialect: V4.1 differs in its added tokens alone."""
    folder = tmp_path_factory.mktemp("tokenizers")
    fixtures = SHARED / "fixtures" / "tokenizer"
    text = lzma.open(fixtures / "tokenizer_v4.json.xz").read()
    (folder / "v4.json").write_bytes(text)
    tokenizer = json.loads(text)
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    for token in json.loads((fixtures / "added_tokens_v41.json").read_text()):
        added[token["id"]].update(token)
    (folder / "v4.1.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    return {
        "v4": folder / "v4.json",
        "v4-0731": folder / "v4.json",
        "v4.1": folder / "v4.1.json",
    }


def encode(lines, *options):
    done = subprocess.run(
        [FATHOMD, "encode", *map(str, options), "-"],
        input="".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.split("\n") if line]


def recorded():
    with open(CASES / "encode_cases.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("dialect", ["v4", "v4-0731", "v4.1"])
def test_every_recorded_prompt_and_its_ids(dialect, tokenizers):
    cases = [case for case in recorded() if case["dialect"] == dialect]
    assert len(cases) > 40
    code, got = encode(cases, "--tokenizer", tokenizers[dialect])
    assert code == 0 and len(got) == len(cases)
    for case, line in zip(cases, got):
        assert line["name"] == case["name"]
        assert line["prompt"] == case["prompt"], case["name"]
        ids = line["ids"]
        assert len(ids) == case["n_tokens"], case["name"]
        if "ids" in case:
            assert ids == case["ids"], case["name"]
        digest = hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
        assert digest == case["ids_sha256"], case["name"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_vectors_of_the_release(number):
    conversation = json.loads((CASES / "official" / f"test_input_{number}.json").read_text())
    if isinstance(conversation, dict):
        conversation["messages"][0]["tools"] = conversation["tools"]
        conversation = conversation["messages"]
    line = {
        "dialect": "v4",
        "policy": "reference",
        "messages": conversation,
        "options": {"thinking": number < 4},
    }
    code, got = encode([line])
    assert code == 0
    want = (CASES / "official" / f"test_output_{number}.txt").read_text(encoding="utf-8")
    assert got[0]["prompt"] == want


def test_literal_ids_differ_only_where_a_client_types_a_control_token(tokenizers):
    """Both readings agree on all recorded prompts but those whose texts spell a marker."""
    cases = [case for case in recorded() if case["dialect"] == "v4"]
    markers = ("｜DSML｜", "<think>", "</think>", "<｜")
    code, literal = encode(cases, "--tokenizer", tokenizers["v4"], "--special", "literal")
    assert code == 0
    differ = []
    for case, line in zip(cases, literal):
        assert line["prompt"] == case["prompt"]
        digest = hashlib.sha256(struct.pack(f"<{len(line['ids'])}I", *line["ids"])).hexdigest()
        typed = json.dumps(case["messages"], ensure_ascii=False)
        if digest != case["ids_sha256"]:
            differ.append(case["name"])
            assert any(marker in typed for marker in markers), case["name"]
    assert differ, "no recorded text spells a marker"


def test_the_stable_part_is_a_prefix_of_the_next_turn(tokenizers):
    turns = [{"role": "user", "content": "one"}]
    lines = []
    for number in range(4):
        lines.append({"dialect": "v4", "policy": "reference", "messages": list(turns)})
        turns.append({"role": "assistant", "content": f"a{number}", "reasoning_content": "r"})
        turns.append({"role": "user", "content": f"next {number}"})
    code, got = encode(lines, "--tokenizer", tokenizers["v4"])
    assert code == 0
    for now, following in zip(got, got[1:]):
        stable = now["stable_tokens"]
        assert 0 < stable < now["n_tokens"]
        assert following["ids"][:stable] == now["ids"][:stable]


def test_a_broken_line_is_named_and_the_others_go_on():
    done = subprocess.run(
        [FATHOMD, "encode", "--dialect", "v4", "-"],
        input='{"messages": 3}\n{oops\n{"name": 1, "messages": [{"role": "user", "content": "x"}]}\n',
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    got = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert done.returncode == 1 and len(got) == 3
    assert "messages" in got[0]["error"] and "JSON" in got[1]["error"]
    assert got[2]["name"] == 1 and got[2]["prompt"].endswith("x<｜Assistant｜><think>")
