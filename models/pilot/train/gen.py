"""Generates training conversations: conversation(rng, limit) -> dict for encode.render(), seeded and endless.

A conversation is {messages, tools, thinking, effort, response_format, prompt_weight} or
{raw: [(text, trained)]}.
"""

import random

from encode import BOS, dump, EOS, FIM
from facts import CAPITALS, CITIES, ELEMENTS, LISTS, NAMES, QA
from words import A, join, U, Word
from questions import simple
from dialogs import chat, filler, memory, retrieval, SYSTEM
from tool_dialogs import tools


# ---- JSON
def jsonmode(r):
    fmt, k = {"type": "json_object"}, r.random()
    n, a, c, job = (
        r.choice([r.choice(NAMES), Word(r)]),
        r.randint(1, 99),
        r.choice(CITIES),
        r.choice("baker teacher doctor farmer painter driver cook sailor writer pilot".split()),
    )
    full = {"name": n, "age": a, "city": c, "job": job}
    keys = r.sample(list(full), r.randint(1, 4))
    text = r.choice(
        [
            f"{n} is {a} years old, lives in {c} and works as a {job}.",
            f"{n}, a {job} of {a} years, lives in {c}.",
            f"The {job} {n} lives in {c} and is {a}.",
        ]
    )
    if k < 0.35:
        q = r.choice(
            [
                f"Extract {join(keys)} as JSON: {text}",
                f"{text} Give me {join(keys)} as JSON.",
                f"Return a JSON object with {join(keys)}. {text}",
            ]
        )
        v = {x: full[x] for x in keys}
        if r.random() < 0.3:
            fmt = None
    elif k < 0.6:
        fmt = {
            "type": "object",
            "properties": {x: {"type": "integer" if x == "age" else "string"} for x in keys},
            "required": keys,
        }
        if r.random() < 0.5:
            fmt["additionalProperties"] = False
        q = r.choice([text, "Extract the data: " + text, "Read this: " + text])
        v = {x: full[x] for x in keys}
    elif k < 0.75:
        co = r.choice(list(CAPITALS))
        q = r.choice(
            [
                f"What is the capital of {co}? Answer as JSON.",
                f"Give me the capital of {co} as JSON.",
                f"Return JSON with country and capital of {co}.",
            ]
        )
        v = {"country": co, "capital": CAPITALS[co]}
        if r.random() < 0.4:
            fmt = None
    elif k < 0.83:
        l = r.choice(list(LISTS))
        m = r.randint(2, 5)
        q = r.choice([f"Give me {m} {l} as JSON.", f"List {m} {l} in JSON."])
        v = {l: LISTS[l][:m]}
    else:
        q, w, t = simple(r)
        while "\1" in t:
            q, w, t = simple(r)
        v = {"answer": t}
    ms = [U(q), A(dump(v), "The answer must be JSON.")]
    if r.random() < 0.3:
        ms.insert(0, {"role": "system", "content": r.choice(SYSTEM)})
    return dict(messages=ms, response_format=fmt)


# ---- plain text and fill-in-the-middle
def statement(r):
    k = r.random()
    if k < 0.3:
        c = r.choice(list(CAPITALS))
        return f"The capital of {c} is {CAPITALS[c]}."
    if k < 0.45:
        n, s, z = r.choice(ELEMENTS)
        return r.choice(
            [f"The chemical symbol of {n} is {s}.", f"The atomic number of {n} is {z}."]
        )
    if k < 0.75:
        return r.choice(QA)[2]
    if k < 0.9:
        return filler(r)
    a, b = r.randint(0, 20), r.randint(0, 20)
    return f"{a} + {b} = {a+b}."


def plain(r):
    t = " ".join(statement(r) for _ in range(r.randint(1, 8)))
    if r.random() < 0.6 and len(t) > 12:
        if r.random() < 0.7:  # whole words
            g = [x for x, ch in enumerate(t) if ch in " ."]
            x = r.randrange(len(g))
            i, j = g[x], g[min(len(g) - 1, x + r.randint(1, 5))]
            if i == j:
                i = t.rfind(" ", 0, j)
        else:
            i = r.randrange(1, len(t) - 4)
            j = r.randrange(i + 1, min(len(t), i + 60))
        return dict(
            raw=[
                (BOS + FIM["begin"] + t[:i] + FIM["hole"] + t[j:] + FIM["end"], False),
                (t[i:j] + EOS, True),
            ]
        )
    return dict(raw=[(BOS, False), (t + EOS, True)])


def conversation(r, limit=2048, long_share=0.5):
    k = r.random()
    f, n = next(
        (f, n)
        for p, f, n in (
            (0.38, chat, "chat"),
            (0.45, memory, "memory"),
            (0.80, tools, "tools"),
            (0.85, jsonmode, "json"),
            (0.88, plain, "plain"),
            (2, None, "retrieval"),
        )
        if k < p
    )
    c = (
        f(r)
        if f
        else retrieval(
            r, r.uniform(60, 400) if r.random() > long_share else r.uniform(300, limit * 0.9)
        )
    )
    c["skill"], c["thinking"] = n, r.random() < 0.5
    if c["thinking"] and r.random() < 0.03:
        c["effort"] = "max"
    ms = c.get("messages", [])
    last = max((i for i, m in enumerate(ms) if m["role"] in ("user", "tool")), default=0)
    for i, m in enumerate(ms):  # steps of large sums: only where no reasoning is shown
        if m["content"].startswith("\1"):
            st, a = m["content"][1:].split("\2")
            m["content"] = a if c["thinking"] and (c.get("tools") or i > last) else st + " " + a
    return c


if __name__ == "__main__":
    import sys, encode

    r = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 3):
        c = conversation(r)
        print("".join(t for t, _ in (c["raw"] if "raw" in c else encode.render(c))))
        print("=" * 80)
