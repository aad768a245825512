"""Byte-level BPE from a tokenizer.json with DeepSeek's pre-tokenizer, without the tokenizers package."""

import json

import regex


class Tok:
    def __init__(self, path):
        j = json.load(open(path, encoding="utf-8"))
        m = j["model"]
        self.v = m["vocab"]
        self.rank = {tuple(x.split(" ")): i for i, x in enumerate(m["merges"])}
        self.add = {a["content"]: a["id"] for a in j["added_tokens"]}
        self.pats = [
            regex.compile(p["pattern"]["Regex"]) for p in j["pre_tokenizer"]["pretokenizers"][:3]
        ]
        keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
        self.b = {b: chr(b) for b in keep}
        n = 0
        for b in range(256):
            if b not in self.b:
                self.b[b] = chr(256 + n)
                n += 1
        self.u = {c: b for b, c in self.b.items()}
        self.cut = regex.compile(
            "(" + "|".join(regex.escape(a) for a in sorted(self.add, key=len, reverse=True)) + ")"
        )
        self.inv = {i: t for t, i in {**self.v, **self.add}.items()}
        self.cache = {}

    def bpe(self, p):
        if p not in self.cache:
            t = [self.b[b] for b in p.encode()]
            while len(t) > 1:
                r, i = min((self.rank.get((t[i], t[i + 1]), 1 << 30), i) for i in range(len(t) - 1))
                if r == 1 << 30:
                    break
                t[i : i + 2] = [t[i] + t[i + 1]]
            self.cache[p] = [self.v[x] for x in t]
        return self.cache[p]

    def encode(self, text):
        out = []
        for seg in self.cut.split(text):
            if seg in self.add:
                out.append(self.add[seg])
                continue
            ps = [seg] if seg else []
            for pat in self.pats:
                nxt = []
                for p in ps:
                    i = 0
                    for m in pat.finditer(p):
                        if m.start() > i:
                            nxt.append(p[i : m.start()])
                        nxt.append(m.group())
                        i = m.end()
                    if i < len(p):
                        nxt.append(p[i:])
                ps = nxt
            for p in ps:
                out += self.bpe(p)
        return out

    def decode(self, ids):
        out = b""
        for i in ids:
            t = self.inv[i]
            out += t.encode() if t in self.add else bytes(self.u[c] for c in t)
        return out.decode("utf-8", "replace")
