"""Training parameters to the official checkpoint and back."""

import json
import os

import torch

import quantise
from config import BLOCKS, E, I


@torch.no_grad()
def export(P, net, out):
    t, m = {}, {n: v.detach().float().cpu() for n, v in P.m.items()}

    def q8(n, w):
        t[n + ".weight"], t[n + ".scale"] = quantise.to_fp8(w)

    def q4(n, w):
        t[n + ".weight"], t[n + ".scale"] = quantise.to_fp4(w)

    for n, (sh, kind, _) in P.spec.items():
        v, p = m[n], n.rsplit(".", 1)[0]
        if n.endswith(".w13"):
            for e in range(E):
                q4(f"{p}.experts.{e}.w1", v[2 * e * I : (2 * e + 1) * I])
                q4(f"{p}.experts.{e}.w3", v[(2 * e + 1) * I : (2 * e + 2) * I])
        elif n.endswith(".w2"):
            for e in range(E):
                q4(f"{p}.experts.{e}.w2", v[:, e * I : (e + 1) * I].contiguous())
        elif n.endswith(".sh13"):
            q8(p + ".shared_experts.w1", v[:I])
            q8(p + ".shared_experts.w3", v[I:])
        elif n.endswith(".sh2"):
            q8(p + ".shared_experts.w2", v)
        elif kind == "fp8":
            q8(n, v)
        elif kind == "bf16":
            t[n + ".weight"] = v.to(torch.bfloat16)
        else:
            t[n] = v
    for i, (p, _, hashed) in enumerate(BLOCKS):
        if hashed:
            t[p + ".ffn.gate.tid2eid"] = net.tid[i].cpu()
        else:
            t[p + ".ffn.gate.bias"] = net.bias[p].float().cpu()
    t = {k: v.contiguous() for k, v in t.items()}
    from safetensors.torch import save_file

    os.makedirs(out, exist_ok=True)
    size = lambda v: v.numel() * v.element_size()
    total = sum(map(size, t.values()))
    shards, cur = [{}], 0
    for k in sorted(t):
        if cur > total / 2 and len(shards) == 1:
            shards.append({})
            cur = 0
        shards[-1][k] = t[k]
        cur += size(t[k])
    name = lambda i: f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    for i, s in enumerate(shards):
        save_file(s, f"{out}/{name(i)}")
    json.dump(
        {
            "metadata": {"total_size": total},
            "weight_map": {k: name(i) for i, s in enumerate(shards) for k in sorted(s)},
        },
        open(out + "/model.safetensors.index.json", "w"),
        indent=0,
    )
    return t, total


def read(d):
    from safetensors.torch import load_file

    t = {}
    for f in sorted(
        set(json.load(open(d + "/model.safetensors.index.json"))["weight_map"].values())
    ):
        t |= load_file(f"{d}/{f}")
    return t


@torch.no_grad()
def load(P, net, d):
    """dequantised checkpoint -> masters (for further training or evaluation)"""
    t = read(d)
    W = lambda n: (
        quantise.from_either(t[n + ".weight"], t[n + ".scale"])
        if n + ".scale" in t
        else t[n + ".weight"].float()
    )
    for n in P.spec:
        p = n.rsplit(".", 1)[0]
        if n.endswith(".w13"):
            v = torch.cat([W(f"{p}.experts.{e}.{k}") for e in range(E) for k in ("w1", "w3")])
        elif n.endswith(".w2"):
            v = torch.cat([W(f"{p}.experts.{e}.w2") for e in range(E)], 1)
        elif n.endswith(".sh13"):
            v = torch.cat([W(p + ".shared_experts.w1"), W(p + ".shared_experts.w3")])
        elif n.endswith(".sh2"):
            v = W(p + ".shared_experts.w2")
        else:
            v = t[n].float() if n in t else W(n)
        P.m[n].copy_(v)
    for p in net.bias:
        net.bias[p].copy_(t[p + ".ffn.gate.bias"])
    return t
