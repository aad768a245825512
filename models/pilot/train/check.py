"""Measures a checkpoint without PyTorch or a GPU: scripted cases, golden data, retrieval, unseen turns.

    check.py CHECKPOINT OUTPUT_DIRECTORY        about 5 minutes on 2 cores; needs gcc and `regex`

Writes eval.json and golden.safetensors. With PILOT_TEMP=0.7 in the environment it samples at that
temperature, counts the scripted cases and writes nothing.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

import dialogs
import encode
import gen
import words
from bpe import Tok
from cases import GOLDEN, cases, judge, prompt
from refc import Engine, write_safetensors

START = time.time()
RETRIEVAL_SIZES = ((512, 16), (1024, 16), (2048, 12), (4096, 6), (8192, 4))  # tokens, texts
TURNS_OF_EACH_SKILL, SKILLS = 24, 6


def say(*words_):
    print(f"[{time.time() - START:5.0f}]", *words_, flush=True)


def run_cases(tok, engine, scripted):
    """Fills in what each case produced. -> the runs that the golden file keeps."""
    prompts = [tok.encode(prompt(case)) for case in scripted]
    say(len(scripted), "cases,", sum(map(len, prompts)), "prompt tokens")
    requests = [(case.get("max_new", 230), ids) for case, ids in zip(scripted, prompts)]
    kept = {}
    for case, ids, run in zip(scripted, prompts, engine.greedy(requests)):
        greedy, gaps, drafts = run
        case["prompt_tokens"] = len(ids)
        case["output"] = tok.decode(greedy)
        case["min_gap"] = round(min(gaps), 3)
        case["pass"] = judge(case, case["output"])
        case["drafts"] = len(greedy) - 1
        case["accepted"] = sum(draft == real for draft, real in zip(drafts, greedy[1:]))
        if not case["pass"]:
            wanted = json.dumps(case["expect"], ensure_ascii=False)[:130]
            found = case["output"][:220].replace("\n", "\\n")
            say("FAIL", case["category"], "|", case["name"], "|", wanted, "->", found)
        if case["name"] in GOLDEN:
            kept[case["name"]] = (ids, *run)
    return kept


def share_accepted(some):
    return sum(c["accepted"] for c in some) / max(sum(c["drafts"] for c in some), 1)


def summarise(scripted):
    by_category = {}
    for case in scripted:
        by_category.setdefault(case["category"], []).append(case)
    return dict(
        numerics="official (FP8/FP4 checkpoint, bf16 activations), greedy",
        passed=sum(case["pass"] for case in scripted),
        cases=len(scripted),
        mtp_acceptance=round(share_accepted(scripted), 4),
        by_category={
            name: dict(
                passed=sum(case["pass"] for case in some),
                cases=len(some),
                mtp_acceptance=round(share_accepted(some), 3),
            )
            for name, some in by_category.items()
        },
        held_out_exact_turns={},
        retrieval_exact_by_tokens={},
    )


def write_golden(path, kept):
    tensors = {}
    for j, name in enumerate(GOLDEN):
        ids, greedy, gaps, drafts = kept[name]
        tensors[f"{j}.prompt"] = ("I32", "i", ids)
        tensors[f"{j}.greedy"] = ("I32", "i", greedy)
        tensors[f"{j}.gap"] = ("F32", "f", gaps)
        tensors[f"{j}.mtp"] = ("I32", "i", drafts)
    write_safetensors(path, tensors, {"cases": json.dumps(GOLDEN)})


def tokenize(tok, conversation):
    """-> ids, and the span of each trained piece."""
    ids, spans = [], []
    pieces = conversation["raw"] if "raw" in conversation else encode.render(conversation)
    for text, trained in pieces:
        more = tok.encode(text)
        if trained:
            spans.append((len(ids), len(ids) + len(more)))
        ids += more
    return ids, spans


def count_exact(engine, items):
    """items: (group, ids, start, end) -> {group: "hits/tries"}; a hit has every token of its span."""
    count = {}
    best = engine.best_after_each([ids for _, ids, _, _ in items])
    for (group, ids, start, end), after in zip(items, best):
        hits, tries = count.get(group, (0, 0))
        hit = all(after[t - 1] == ids[t] for t in range(start, end))
        count[group] = (hits + hit, tries + 1)
    return {group: f"{hits}/{tries}" for group, (hits, tries) in count.items()}


def retrieval_items(tok, rng):
    items = []
    for size, count in RETRIEVAL_SIZES:
        left = count
        while left:
            ids, spans = tokenize(tok, dialogs.retrieval(rng, size * rng.uniform(0.8, 1.0)))
            if size * 0.8 < len(ids) <= size:
                items.append((size, ids, *spans[-1]))
                left -= 1
    return items


def unseen_turns(tok, rng):
    items, seen = [], {}
    while len(seen) < SKILLS or min(seen.values()) < TURNS_OF_EACH_SKILL:
        conversation = gen.conversation(rng, 512)
        skill = conversation["skill"]
        if seen.get(skill, 0) >= TURNS_OF_EACH_SKILL:
            continue
        ids, spans = tokenize(tok, conversation)
        if len(ids) < 700:
            items.append((skill, ids, *spans[-1]))
            seen[skill] = seen.get(skill, 0) + 1
    return items


def main(checkpoint, output):
    tok, engine, scripted = Tok(checkpoint + "/tokenizer.json"), Engine(checkpoint), cases()
    kept = run_cases(tok, engine, scripted)
    summary = summarise(scripted)
    say(summary["passed"], "of", summary["cases"], "mtp", summary["mtp_acceptance"])
    if os.environ.get("PILOT_TEMP"):
        return
    write_golden(output + "/golden.safetensors", kept)

    words.PIECES[:] = sorted(t for t in tok.v if t.isascii() and t.isalpha())
    rng = random.Random(31337)
    summary["retrieval_exact_by_tokens"] = count_exact(engine, retrieval_items(tok, rng))
    say(summary["retrieval_exact_by_tokens"])
    summary["held_out_exact_turns"] = count_exact(engine, unseen_turns(tok, rng))
    say(summary["held_out_exact_turns"])
    head = json.dumps(summary, ensure_ascii=False, indent=1)
    lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in scripted)
    text = f'{{"summary":{head},\n"cases":[\n' + ",\n".join(lines) + "\n]}\n"
    Path(output, "eval.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
