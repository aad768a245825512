"""Sinkhorn normalisation of the hyper-connections, as one kernel forwards and one backwards: twenty
rounds on 4 x 4 matrices would otherwise be eighty launches."""

import torch
import triton
import triton.language as tl

from config import C, EPS


@triton.jit
def _sk_fwd(z, c, s, N, IT: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i = tl.arange(0, 4)
    off = t[:, None, None] * 16 + i[None, :, None] * 4 + i[None, None, :]
    m3 = (t < N)[:, None, None] & (i >= 0)[None, :, None] & (i >= 0)[None, None, :]
    so = t[:, None] * (8 * IT - 4) + i[None, :]
    m2 = (t < N)[:, None] & (i >= 0)[None, :]
    x = tl.load(z + off, mask=m3, other=0.0)
    x = tl.exp(x - tl.max(x, axis=2)[:, :, None])
    x = x / tl.sum(x, axis=2)[:, :, None] + 1e-6
    q = tl.sum(x, axis=1) + 1e-6
    tl.store(s + so, q, mask=m2)
    x = x / q[:, None, :]
    for n in range(IT - 1):
        q = tl.sum(x, axis=2) + 1e-6
        tl.store(s + so + (8 * n + 4), q, mask=m2)
        x = x / q[:, :, None]
        q = tl.sum(x, axis=1) + 1e-6
        tl.store(s + so + (8 * n + 8), q, mask=m2)
        x = x / q[:, None, :]
    tl.store(c + off, x, mask=m3)


@triton.jit
def _sk_bwd(z, c, s, g, dz, N, IT: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i = tl.arange(0, 4)
    off = t[:, None, None] * 16 + i[None, :, None] * 4 + i[None, None, :]
    m3 = (t < N)[:, None, None] & (i >= 0)[None, :, None] & (i >= 0)[None, None, :]
    so = t[:, None] * (8 * IT - 4) + i[None, :]
    m2 = (t < N)[:, None] & (i >= 0)[None, :]
    x = tl.load(c + off, mask=m3, other=0.0)
    d = tl.load(g + off, mask=m3, other=0.0)
    for k in range(IT - 1):
        n = IT - 2 - k
        q = tl.load(s + so + (8 * n + 8), mask=m2, other=1.0)
        d = (d - tl.sum(d * x, axis=1)[:, None, :]) / q[:, None, :]
        x = x * q[:, None, :]
        q = tl.load(s + so + (8 * n + 4), mask=m2, other=1.0)
        d = (d - tl.sum(d * x, axis=2)[:, :, None]) / q[:, :, None]
        x = x * q[:, :, None]
    q = tl.load(s + so, mask=m2, other=1.0)
    d = (d - tl.sum(d * x, axis=1)[:, None, :]) / q[:, None, :]
    p = tl.load(z + off, mask=m3, other=0.0)
    p = tl.exp(p - tl.max(p, axis=2)[:, :, None])
    p = p / tl.sum(p, axis=2)[:, :, None]
    tl.store(dz + off, p * (d - tl.sum(d * p, axis=2)[:, :, None]), mask=m3)


IT = C["hc_sinkhorn_iters"]


class Sinkhorn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        z = z.contiguous()
        N = z.shape[0]
        c = torch.empty_like(z)
        s = torch.empty(N, 8 * IT - 4, device=z.device)
        _sk_fwd[(triton.cdiv(N, 64),)](z, c, s, N, IT, 64)
        ctx.save_for_backward(z, c, s)
        return c

    @staticmethod
    def backward(ctx, g):
        z, c, s = ctx.saved_tensors
        dz = torch.empty_like(z)
        N = z.shape[0]
        _sk_bwd[(triton.cdiv(N, 64),)](z, c, s, g.contiguous(), dz, N, IT, 64)
        return dz


def sinkhorn_plain(z):
    x = z.view(-1, 4, 4).softmax(-1) + EPS
    x = x / (x.sum(-2, keepdim=True) + EPS)
    for _ in range(IT - 1):
        x = x / (x.sum(-1, keepdim=True) + EPS)
        x = x / (x.sum(-2, keepdim=True) + EPS)
    return x.reshape(-1, 16)
