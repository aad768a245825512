"""Packs generated conversations into token rows; worker processes feed the trainer."""

import multiprocessing as mp
import os
import random

import numpy as np

import encode
import gen
import words

SKILLS = ["chat", "memory", "tools", "json", "plain", "retrieval"]


def tokens(tok, conv):
    """-> ids, weights in percent (100 = assistant), spans of trained tokens"""
    ids, w, spans, pw = [], [], [], int(100 * conv.get("prompt_weight", 0.1))
    for text, trained in conv["raw"] if "raw" in conv else encode.render(conv):
        t = tok.encode(text, add_special_tokens=False).ids
        if trained:
            spans.append((len(ids), len(ids) + len(t)))
        ids += t
        w += [100 if trained else pw] * len(t)
    w[0] = 0
    return ids, w, spans


def batch(r, tok, B, T, pending, long_share=0.5):
    ids, w, seg, info = (
        np.full((B, T), 2, np.uint16),
        np.zeros((B, T), np.uint8),
        np.zeros((B, T // 128), np.uint8),
        [],
    )
    for b in range(B):
        pos = sid = miss = 0
        while pos < T and miss < 5:
            if pending and miss == 0:
                c, x = pending.pop()
            else:
                c = gen.conversation(r, T, long_share)
                x = tokens(tok, c)
            n = -(-len(x[0]) // 128) * 128
            if n > T - pos:
                miss += 1
                if n <= T and len(pending) < 8:
                    pending.append((c, x))
                continue
            ids[b, pos : pos + len(x[0])] = x[0]
            w[b, pos : pos + len(x[0])] = x[1]
            seg[b, pos // 128 : (pos + n) // 128] = sid
            info += [(b, pos + s, pos + e, SKILLS.index(c["skill"])) for s, e in x[2]]
            pos += n
            sid += 1
        seg[b, pos // 128 :] = sid
    return ids, w, seg, info


def worker(seed, path, q, long, N):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    tok, r, pend = Tokenizer.from_file(path), random.Random(seed), {2048: [], 4096: [], 8192: []}
    words.PIECES[:] = pieces(tok)
    while True:
        k = r.random()
        T = (
            int(-long.value)
            if long.value < 0
            else 2048 if k > long.value else 4096 if k > 0.4 * long.value else 8192
        )
        q.put(batch(r, tok, N // T, T, pend[T])[:3])


def pieces(tok):
    return sorted(t for t in tok.get_vocab() if t.isascii() and t.isalpha())


def start(path, n, N, seed=1000, long=0.0):
    q, long = mp.Queue(48), mp.Value("d", long)
    ps = [
        mp.Process(target=worker, args=(seed + i, path, q, long, N), daemon=True) for i in range(n)
    ]
    for p in ps:
        p.start()
    return q, long, ps
