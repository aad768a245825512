"""Builds tokenizer.json: byte-level BPE with DeepSeek's pre-tokenizer and added tokens, trained on generated text.
Two deliberate choices help a tiny model to copy: digits are never merged, and a leading space or punctuation mark is
merged with a word only for the commonest words (the last merges), so `Oslo`, ` Oslo` and `"Oslo` share their word tokens.
Usage: tok.py REAL_TOKENIZER.json.xz OUTDIR [VOCAB]"""

import collections, json, lzma, os, random, re, sys
import gen, encode, facts

PIECE = re.compile(
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\W_]?[^\W\d_]+| ?[^\W\d_]+| ?(?:[^\w\s]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)


def pieces(t):
    for seg in re.split(r"(\d{1,3})", t):
        if not seg or seg[0].isdigit():
            continue
        yield from PIECE.findall(seg)


def train(real, vocab, n=7000, seed=5):
    r = random.Random(seed)
    words, spaced, punct = (collections.Counter() for _ in range(3))
    special = sorted([a["content"] for a in real["added_tokens"]], key=len, reverse=True)
    cut = re.compile("|".join(map(re.escape, special)))
    texts = []
    for i in range(n):
        c = gen.conversation(r, 512)
        texts.append("".join(t for t, _ in (c["raw"] if "raw" in c else encode.render(c))))
    for i, t in enumerate(texts):
        if i % 25:
            t = t.replace(encode.BEFORE, "").replace(encode.AFTER, "").replace(encode.MAX, "")
        for seg in cut.split(t):
            for p in pieces(seg):
                if p[-1].isalpha():
                    w = p if p[0].isalpha() else p[1:]
                    words[w] += 1
                    if p[0] == " ":
                        spaced[w] += 1
                else:
                    punct[p] += 1
    b2u = {
        i: c
        for i, c in zip(
            [*range(33, 127), *range(161, 173), *range(174, 256)],
            map(chr, [*range(33, 127), *range(161, 173), *range(174, 256)]),
        )
    }
    k = 0
    for b in range(256):
        if b not in b2u:
            b2u[b] = chr(256 + k)
            k += 1
    U = lambda s: [b2u[b] for b in s.encode()]

    def bpe(counter, want):
        seqs = [(U(w), min(c, 60) + c * 0.05) for w, c in counter.items() if c > 1]
        merges, pc, where = [], collections.Counter(), collections.defaultdict(set)
        for i, (s, c) in enumerate(seqs):
            for p in zip(s, s[1:]):
                pc[p] += c
                where[p].add(i)
        while len(merges) < want and pc:
            p = max(pc, key=lambda x: (pc[x], x))
            if pc[p] < 4:
                break
            merges.append(p)
            for i in list(where[p]):
                s, c = seqs[i]
                o, j = [], 0
                while j < len(s):
                    if j + 1 < len(s) and (s[j], s[j + 1]) == p:
                        o.append(s[j] + s[j + 1])
                        j += 2
                    else:
                        o.append(s[j])
                        j += 1
                if len(o) == len(s):
                    continue
                for q in zip(s, s[1:]):
                    pc[q] -= c
                    where[q].discard(i)
                for q in zip(o, o[1:]):
                    pc[q] += c
                    where[q].add(i)
                seqs[i] = (o, c)
            pc.pop(p, None)
        return merges

    added = [a for a in real["added_tokens"] if a["id"] > 2 and "place" not in a["content"]]
    room = vocab - 259 - len(added)
    NSP, NPU = 560, 110
    mp = bpe(punct, NPU)
    mw = bpe(words, room - NSP - len(mp))
    toks = {a + b for a, b in mw}
    never = (
        set(facts.NAMES) | set(" ".join(facts.CITIES).split()) | set(facts.NOUNS) | set(facts.ADJS)
    )
    sp = [
        w
        for w, _ in spaced.most_common()
        if w not in never and ("".join(U(w)) in toks or w in ("a", "I"))
    ][: room - len(mp) - len(mw)]
    merges = mp + mw + [("Ġ", "".join(U(w))) for w in sp]
    base = [k for k, v in sorted(real["model"]["vocab"].items(), key=lambda x: x[1])[:259]]
    V = {t: i for i, t in enumerate(base)}
    for a, b in merges:
        assert a in V and b in V and a + b not in V, (a, b)
        V[a + b] = len(V)
    add = [dict(a) for a in real["added_tokens"] if a["id"] <= 2]
    for i, a in enumerate(added):
        add.append({**a, "id": len(V) + i})
    out = {k: real[k] for k in ("version", "truncation", "padding")}
    out |= {
        "added_tokens": add,
        "normalizer": real["normalizer"],
        "pre_tokenizer": real["pre_tokenizer"],
        "post_processor": real["post_processor"],
        "decoder": real["decoder"],
        "model": {**real["model"], "vocab": V, "merges": [f"{a} {b}" for a, b in merges]},
    }
    return out, len(V) + len(added), texts


if __name__ == "__main__":
    raw = open(sys.argv[1], "rb").read()
    real = json.loads(lzma.decompress(raw) if sys.argv[1].endswith("xz") else raw)
    vocab = int(sys.argv[3]) if len(sys.argv) > 3 else 3072
    t, n, texts = train(real, vocab)
    os.makedirs(sys.argv[2], exist_ok=True)
    json.dump(t, open(sys.argv[2] + "/tokenizer.json", "w", encoding="utf-8"), ensure_ascii=False)
    json.dump(
        {
            "add_bos_token": False,
            "add_eos_token": False,
            "bos_token": encode.BOS,
            "eos_token": encode.EOS,
            "pad_token": encode.EOS,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 1048576,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
        open(sys.argv[2] + "/tokenizer_config.json", "w", encoding="utf-8"),
        ensure_ascii=False,
        indent=1,
    )
    print("vocab", n, "last merges", t["model"]["merges"][-5:], "first", t["model"]["merges"][:5])
