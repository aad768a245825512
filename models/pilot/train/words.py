"""Made-up words, and how careless people write: the smallest pieces of a conversation."""

import re

from facts import KNOWN, WORDS

SYL = [
    c + v
    for c in "b d f g h k l m n p r s t v w z br dr gr kr st tr pl ch sh th".split()
    for v in "a e i o u ai ee ou".split()
]
TAIL = ["", "", "", "n", "r", "l", "s", "x", "nd", "rk", "m", "t"]
# Word tokens of the tokenizer, filled in place by data.py: each must be learnt as something to copy.
PIECES = []


def word(r, n=None):
    k = r.random()
    if PIECES and k < 0.4:
        return "".join(r.choice(PIECES) for _ in range(r.choice((1, 1, 2, 2, 3))))
    if k < 0.55:
        return r.choice(WORDS)
    if k < 0.57 and not n:
        return r.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(r.choice(SYL) for _ in range(n or r.choice((1, 2, 2, 3)))) + r.choice(TAIL)


def strange(r):  # a word that no known question contains
    while True:
        w = word(r)
        if w.lower() not in KNOWN and len(w) > 2:
            return w


def Word(r):
    return word(r).capitalize()


U = lambda t, **k: {"role": "user", "content": t, **k}


def A(text, why="", calls=None):
    m = {"role": "assistant", "content": text, "reasoning": why}
    if calls:
        m["tool_calls"] = calls
    return m


cap = lambda s: s[:1].upper() + s[1:]
join = lambda xs: xs[0] if len(xs) == 1 else ", ".join(xs[:-1]) + " and " + xs[-1]


# ---- careless writing: lower case, no punctuation, one wrong letter
def near(c):
    return next(
        (
            row[max(0, row.index(c) - 1) : row.index(c)] + row[row.index(c) + 1 : row.index(c) + 2]
            for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
            if c in row
        ),
        "e",
    )


def typo(r, w):
    for _ in range(9):
        k, i = r.random(), r.randrange(1, len(w)) if r.random() < 0.93 else 0
        if k < 0.3:
            x = w[:i] + w[i + 1 :]
        elif k < 0.58:
            x = w[:i] + w[i + 1 : i + 2] + w[i] + w[i + 2 :]
        elif k < 0.74:
            x = w[:i] + w[i] + w[i:]
        elif k < 0.87:
            x = w[:i] + r.choice(near(w[i].lower())) + w[i + 1 :]
        else:
            x = (
                w[:i]
                + r.choice("aeiou" if w[i] in "aeiou" else "aeiourstnlm")
                + w[i + (w[i] in "aeiou" or r.random() < 0.5) :]
            )
        if x != w and x.lower() not in KNOWN:
            return x
    return w


def careless(r, q, fix=(), spell=True):
    """the same request as a hurried person types it; the strings in fix stay as they are"""
    fix = sorted({f for f in fix if f}, key=len, reverse=True)
    k = r.random()
    parts = re.split("(" + "|".join(map(re.escape, fix)) + ")", q) if fix else [q]
    low, bare, bad = (
        k < 0.6,
        r.random() < (0.75 if k < 0.6 else 0.35),
        spell and (k > 0.63 or r.random() < 0.25),
    )
    if bad:
        ws = [
            (i, m.start(), m.group())
            for i in range(0, len(parts), 2)
            for m in re.finditer(r"(?<![\w'])[A-Za-z]{4,}(?![\w'])", parts[i])
        ]
        for i, o, w in sorted(
            r.sample(ws, min(len(ws), 1 if r.random() < 0.8 else 2)), reverse=True
        ):
            parts[i] = parts[i][:o] + typo(r, w) + parts[i][o + len(w) :]
    for i in range(0, len(parts), 2):
        if low:
            parts[i] = parts[i].lower()
        elif not bad and k < 0.63:
            parts[i] = parts[i].upper()
        if bare:
            parts[i] = parts[i].replace("'", "") if r.random() < 0.7 else parts[i]
    if bare:
        parts[-1] = parts[-1].rstrip("?.! \n")
    return "".join(parts)
