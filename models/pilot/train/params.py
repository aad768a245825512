"""Every parameter, its fake quantisation, and the copies of both that the network and the optimiser use.

Gradients pass straight through the quantisers.
"""

import math

import torch

from compiled import J
from config import BF, BLOCKS, C, D, E, F32, G, H, HD, I, ID, K, NH, OR, QR


# ---------------------------------------------------------------- parameters: (name, shape, kind, init std, optimiser)
def specs():
    o = []
    add = lambda n, s, k, std, opt="adam": o.append((n, s, k, std, opt))

    def fp8(n, a, b, std=None, opt="muon"):
        add(n, (a, b), "fp8", std or b**-0.5, opt)

    def comp(p, m, k):
        w = k * (2 if m == 4 else 1)
        add(p + ".ape", (m, w), "f32", 0.1)
        add(p + ".wkv", (w, D), "bf16", D**-0.5, "muon")
        add(p + ".wgate", (w, D), "bf16", D**-0.5, "muon")
        add(p + ".norm", (k,), "bf16", 0)

    def head(p):
        add(p + "hc_head_fn", (4, 4 * D), "f32", (4 * D) ** -0.5)
        add(p + "hc_head_base", (4,), "f32", 0.3)
        add(p + "hc_head_scale", (1,), "f32", "scale")

    for i, (p, m, hashed) in enumerate(BLOCKS):
        for s in ("attn", "ffn"):
            add(f"{p}.hc_{s}_fn", (24, 4 * D), "f32", (4 * D) ** -0.5)
            add(f"{p}.hc_{s}_base", (24,), "f32", f"base{(2 * i + (s == 'ffn')) % 4}")
            add(f"{p}.hc_{s}_scale", (3,), "f32", "scale")
            add(f"{p}.{s}_norm", (D,), "bf16", 0)
        a, f = p + ".attn", p + ".ffn"
        add(a + ".attn_sink", (H,), "f32", 0.01)
        add(a + ".q_norm", (QR,), "bf16", 0)
        add(a + ".kv_norm", (HD,), "bf16", 0)
        fp8(a + ".wq_a", QR, D)
        fp8(a + ".wq_b", H * HD, QR)
        fp8(a + ".wkv", HD, D)
        fp8(a + ".wo_a", G * OR, H * HD // G)
        fp8(a + ".wo_b", D, G * OR, 0.5 * (G * OR) ** -0.5)
        if m:
            comp(a + ".compressor", m, HD)
        if m == 4:
            fp8(a + ".indexer.wq_b", NH * ID, QR)
            add(a + ".indexer.weights_proj", (NH, D), "bf16", D**-0.5)
            comp(a + ".indexer.compressor", 4, ID)
        add(f + ".gate", (E, D), "bf16", D**-0.5)
        add(f + ".w13", (E * 2 * I, D), "fp4", D**-0.5, "muon")
        add(f + ".w2", (D, E * I), "fp4", 0.7 * I**-0.5, "muon")
        fp8(f + ".sh13", 2 * I, D)
        fp8(f + ".sh2", D, I, 0.7 * I**-0.5)
    fp8("mtp.0.e_proj", D, D)
    fp8("mtp.0.h_proj", D, D)
    for n in ("enorm", "hnorm", "norm"):
        add("mtp.0." + n, (D,), "bf16", 0)
    head("mtp.0.")
    head("")
    add("norm", (D,), "bf16", 0)
    add("embed", (C["vocab_size"], D), "bf16", 0.6)
    add("head", (C["vocab_size"], D), "bf16", 0.02)
    return o


def tid2eid(l):  # fixed balanced hash: token -> K distinct experts
    g = torch.Generator().manual_seed(100 + l)
    return torch.stack([torch.randperm(E, generator=g)[:K] for _ in range(C["vocab_size"])])


# ---------------------------------------------------------------- fake quantisation
def p2(x):
    return torch.exp2(torch.ceil(torch.log2(x)))


def r4(y):  # e2m1 grid, |y| <= 6, ties to even code
    a = y.abs()
    st = torch.where(a < 2, 0.5, torch.where(a < 4, 1.0, 2.0))
    return torch.round(a / st) * st * torch.sign(y)


def fq8(x, g):
    y = x.float().unflatten(-1, (-1, g))
    d = y.detach()
    s = p2(d.abs().amax(-1, keepdim=True).clamp_min(1e-4) / 448)
    q = (d / s).clamp(-448, 448).to(torch.float8_e4m3fn).float() * s
    return (y + (q - d)).flatten(-2).to(BF)


def fq4(x):
    y = x.float().unflatten(-1, (-1, 32))
    d = y.detach()
    s = p2(d.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 6)
    return (y + (r4((d / s).clamp(-6, 6)) * s - d)).flatten(-2).to(BF)


@J
def quant4(w):  # flat [n,32]
    s = p2(w.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 6)
    return (r4((w / s).clamp(-6, 6)) * s).to(BF)


@J
def quant8(w):  # blocks [n,16384]
    s = p2(w.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 448)
    return ((w / s).to(torch.float8_e4m3fn).float() * s).to(BF)


class Params:
    """fp32 masters in one flat buffer per kind; quantised shadows (leaves) of the same layout are what the network uses."""

    def __init__(self, dev, seed=1):
        g = torch.Generator().manual_seed(seed)
        self.m, self.w, self.spec, self.flat, self.shadow, self.grad = {}, {}, {}, {}, {}, {}
        by = {}
        for n, sh, k, std, opt in specs():
            by.setdefault(k, []).append(n)
            self.spec[n] = (sh, k, opt)
            if std == 0:
                t = torch.ones(sh)
            elif std == "scale":
                t = torch.full(sh, 0.1)
            elif isinstance(std, str):
                i = int(std[4:])
                t = torch.randn(sh, generator=g) * 0.3
                t[:4] -= 1
                t[i] += 2
                t[8:] += 2 * torch.eye(4).flatten()
            else:
                t = torch.randn(sh, generator=g) * std
            self.m[n] = t
        for k, names in by.items():
            self.flat[k] = torch.cat([self.m[n].flatten() for n in names]).to(dev)
            self.shadow[k] = torch.zeros_like(self.flat[k], dtype=F32 if k == "f32" else BF)
            self.grad[k] = torch.zeros_like(self.shadow[k])
            o = 0
            perm = []
            for n in names:
                sh = self.spec[n][0]
                c = math.prod(sh)
                self.m[n] = self.flat[k][o : o + c].view(sh)
                self.w[n] = self.shadow[k][o : o + c].view(sh).detach().requires_grad_()
                self.w[n].grad = self.grad[k][o : o + c].view(sh)
                if k == "fp8":
                    perm.append(
                        o
                        + torch.arange(c)
                        .view(sh[0] // 128, 128, sh[1] // 128, 128)
                        .transpose(1, 2)
                        .flatten()
                    )
                o += c
            if k == "fp8":
                self.perm = torch.cat(perm).to(dev)
                self.inv = torch.argsort(self.perm)

    @torch.no_grad()
    def sync(self, fp4=True):
        self.shadow["f32"].copy_(self.flat["f32"])
        self.shadow["bf16"].copy_(self.flat["bf16"])
        self.shadow["fp8"].copy_(
            quant8(self.flat["fp8"][self.perm].view(-1, 16384)).view(-1)[self.inv]
        )
        self.shadow["fp4"].copy_(
            quant4(self.flat["fp4"].view(-1, 32)).view(-1) if fp4 else self.flat["fp4"]
        )
