"""The forward pass for training: packed rows [B, T] of tokens, all experts computed densely, window
attention in chunks of 128. A row holds several conversations ("segments"), each starting at a multiple
of 128 and isolated from the others.
"""

import torch
import torch.nn.functional as F

from compiled import J
from config import BF, BLOCKS, C, E, EPS, F32, G, H, HD, I, ID, K, L, LIM, NH, OR, RD, SC
from params import fq4, fq8, tid2eid
from sinkhorn import Sinkhorn


def rms(x, w):
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w.float()


def rope(x, co, si):  # last 64 channels, interleaved
    h, r = x[..., :-RD], x[..., -RD:].unflatten(-1, (RD // 2, 2))
    e, o = r[..., 0], r[..., 1]
    return torch.cat([h, torch.stack([e * co - o * si, o * co + e * si], -1).flatten(-2)], -1)


def mix(X, fn):
    v = X.flatten(1).float()
    return (v @ fn.T) * torch.rsqrt(v.square().mean(-1, keepdim=True) + EPS)


def pre_post(X, fn, base, sc, nw):
    m = mix(X, fn)
    pre = torch.sigmoid(m[:, :4] * sc[0] + base[:4]) + EPS
    post = 2 * torch.sigmoid(m[:, 4:8] * sc[1] + base[4:8])
    y = (pre[..., None] * X.float()).sum(1).to(BF)
    return rms(y, nw).to(BF), post, m[:, 8:] * sc[2] + base[8:]


def out(y, X, post, c):
    return (
        post[..., None] * y.float()[:, None]
        + (c.view(-1, 4, 4)[..., None] * X.float()[:, :, None]).sum(1)
    ).to(BF)


hc_in, hc_out = J(pre_post), J(out)


@J
def hc_mid(y, X, post, c, fn, base, sc, nw):
    X = out(y, X, post, c)
    return (X,) + pre_post(X, fn, base, sc, nw)


@J
def hc_head(X, fn, base, sc, nw):
    w = torch.sigmoid(mix(X, fn) * sc + base) + EPS
    return rms((w[..., None] * X.float()).sum(1).to(BF), nw).to(BF)


@J
def proj(x, wqa, qn, wqb, wkv, kvn, co, si):
    x8 = fq8(x, 128)
    qr = rms(x8 @ wqa.T, qn).to(BF)
    qr8 = fq8(qr, 128)
    q = (qr8 @ wqb.T).view(-1, H, HD).float()
    q = rope(q * torch.rsqrt(q.square().mean(-1, keepdim=True) + EPS), co[:, None], si[:, None]).to(
        BF
    )
    kv = rope(rms(x8 @ wkv.T, kvn).to(BF).float(), co, si)
    return q, torch.cat([fq8(kv[:, :-RD], 64), kv[:, -RD:].to(BF)], -1), qr8


def compress(x, wkv, wg, ape, nw, co, si, first, had, m, k):
    B, N = first.shape
    xf = x.float()
    kv, sc = (xf @ wkv.float().T).view(B, N, m, -1), (xf @ wg.float().T).view(B, N, m, -1) + ape
    if m == 4:  # previous block: first half of the channels
        pk, ps = F.pad(kv[:, :-1, :, :k], (0, 0, 0, 0, 1, 0)), F.pad(
            sc[:, :-1, :, :k], (0, 0, 0, 0, 1, 0)
        ).masked_fill(first[:, :, None, None], -1e30)
        kv, sc = torch.cat([pk, kv[..., k:]], 2), torch.cat([ps, sc[..., k:]], 2)
    e = rope(rms((kv * sc.softmax(2)).sum(2).to(BF), nw).to(BF).float(), co, si)
    if k == ID:
        return fq4(e.to(BF) @ had)
    return torch.cat([fq8(e[..., :-RD], 64), e[..., -RD:].to(BF)], -1)


compress = J(compress)


def visible(seg, m):  # [B,T,N]: entry j complete, of the same segment
    B, T = seg.shape
    p = torch.arange(T, device=seg.device)
    j = torch.arange(T // m, device=seg.device)
    return (j[None] < ((p + 1) // m)[:, None])[None] & (seg[:, :, None] == seg[:, None, ::m])


@J
def index_q(qr8, x, wqb, wp, co, si, had):
    q = rope((qr8.detach() @ wqb.T).view(-1, NH, ID).float(), co[:, None], si[:, None]).to(BF)
    return fq4(q @ had), ((x.detach() @ wp.T).float() * (ID**-0.5 * NH**-0.5)).to(BF)


@J
def index_score(iq, ik, w, seg):
    B, N = ik.shape[:2]
    T = seg.shape[1]
    s = torch.bmm(iq.view(B, T * NH, ID), ik.transpose(1, 2)).view(B, T, NH, N).float().relu()
    return (s * w.view(B, T, NH, 1).float()).sum(2).masked_fill(~visible(seg, 4), -1e30)


@J
def index_loss(s, mass):
    return -(mass * s.log_softmax(-1).clamp_min(-30)).sum() / (s.shape[0] * s.shape[1])


def window(q, kv, seg):
    B, T = seg.shape
    n = T // 128
    k = kv.view(B, n, 128, HD)
    k = torch.cat([F.pad(k[:, :-1], (0, 0, 0, 0, 1, 0)), k], 2).view(B * n, 256, HD)
    s = (
        torch.bmm(q.reshape(B * n, 128 * H, HD), k.transpose(1, 2)).view(B, n, 128, H, 256).float()
        * HD**-0.5
    )
    i = torch.arange(128, device=q.device)[:, None]
    j = torch.arange(256, device=q.device)[None]
    d = i + 128 - j
    c = seg.view(B, n, 128)[:, :, 0]
    same = F.pad(c[:, 1:] == c[:, :-1], (1, 0))
    ok = ((d >= 0) & (d < 128))[None, None] & ((j >= 128)[None, None] | same[:, :, None, None])
    return k, s.masked_fill(~ok[:, :, :, None], -1e30)


@J
def attend0(q, kv, sink, seg):
    B, T = seg.shape
    k, s = window(q, kv, seg)
    mx = s.detach().amax(-1, keepdim=True)
    p = (s - mx).exp()
    p = (p / (p.sum(-1, keepdim=True) + (sink[:, None] - mx).exp())).to(BF)
    return torch.bmm(p.view(-1, 128 * H, 256), k).view(B * T, H, HD)


@J
def attend(q, kv, e, sink, seg, sel, m):
    B, T = seg.shape
    n, N = T // 128, e.shape[1]
    k, s = window(q, kv, seg)
    z = (
        torch.bmm(q.reshape(B, T * H, HD), e.transpose(1, 2)).view(B, n, 128, H, N).float()
        * HD**-0.5
    )
    ok = visible(seg, m)
    if sel is not None:
        ok = ok & sel
    z = z.masked_fill(~ok.view(B, n, 128, 1, N), -1e30)
    mx = torch.maximum(s.detach().amax(-1, keepdim=True), z.detach().amax(-1, keepdim=True))
    p, r = (s - mx).exp(), (z - mx).exp()
    den = p.sum(-1, keepdim=True) + r.sum(-1, keepdim=True) + (sink[:, None] - mx).exp()
    p, r = (p / den).to(BF), (r / den).to(BF)
    o = (
        torch.bmm(p.view(-1, 128 * H, 256), k).view(B * T, H, HD).float()
        + torch.bmm(r.view(B, T * H, N), e).view(B * T, H, HD).float()
    )
    return o.to(BF), r.detach().float().sum(3).view(B, T, N)


@J
def project_out(o, wa, wb, co, si):
    o = rope(o.float(), co[:, None], -si[:, None]).to(BF).view(-1, G, H * HD // G)
    z = (
        torch.bmm(o.transpose(0, 1), wa.view(G, OR, -1).transpose(1, 2))
        .transpose(0, 1)
        .reshape(-1, G * OR)
    )
    return fq8(z, 128) @ wb.T


@J
def route(x, gw, bias, tab, ids):
    s = F.softplus(x.float() @ gw.float().T).sqrt()
    idx = tab[ids] if tab is not None else (s.detach() + bias).topk(K, -1)[1]
    w = s.gather(1, idx)
    return torch.zeros_like(s).scatter(1, idx, w / w.sum(-1, keepdim=True) * SC)


@J
def experts(x, W, w13, w2, s13, s2):
    x8 = fq8(x, 128)

    def mlp(h, w):
        h = h.float()
        h = F.silu(h[..., 0, :].clamp(max=LIM)) * h[..., 1, :].clamp(-LIM, LIM)
        return fq8(h * w, 128)

    y = mlp((x8 @ w13.T).view(-1, E, 2, I), W[..., None]).view(-1, E * I) @ w2.T
    return (y.float() + (mlp((x8 @ s13.T).view(-1, 2, I), 1.0) @ s2.T).float()).to(BF)


@J
def mtp_in(X, e, en, hn, ep, hp):
    return (fq8(rms(e, en).to(BF), 128) @ ep.T)[:, None] + fq8(rms(X, hn).to(BF), 128) @ hp.T


@J
def loss_fn(h, head, tgt, w):
    z = h.float() @ head.float().T
    ce = z.logsumexp(-1) - z.gather(1, tgt[:, None])[:, 0]
    return (ce * w).sum(), (z.detach().argmax(-1) == tgt)


def freqs(m):
    base = float(C["compress_rope_theta"] if m else C["rope_theta"])
    f = 1.0 / base ** (torch.arange(0, RD, 2, dtype=F32) / RD)
    if m:
        sm = 1 - ((torch.arange(RD // 2, dtype=F32) - 15) / 10).clamp(0, 1)
        f = f / 16 * (1 - sm) + f * sm
    return f


class Net:
    def __init__(self, P, dev):
        self.P, self.w, self.dev, self.tabs = P, P.w, dev, {}
        h = torch.ones(1, 1)
        while h.shape[0] < 128:
            h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
        self.had = (h * 128**-0.5).to(dev, BF)
        self.tid = [tid2eid(l).to(dev) for l in range(C["num_hash_layers"])]
        self.bias = {p: torch.zeros(E, device=dev) for p, m, hashed in BLOCKS if not hashed}
        self.load, self.sparse, self.sink = {}, False, Sinkhorn.apply

    def tab(self, B, T):
        if (B, T) not in self.tabs:
            p = torch.arange(T, dtype=F32)[:, None]
            f = lambda m: ((p * freqs(m)).cos(), (p * freqs(m)).sin())
            t = {}
            for m in (0, 4):
                t[m] = tuple(x.repeat(B, 1).to(self.dev) for x in f(m))
            t["e4"] = tuple(x[::4].contiguous().to(self.dev) for x in f(4))
            t["e128"] = tuple(x[::128].contiguous().to(self.dev) for x in f(4))
            self.tabs[B, T] = t
        return self.tabs[B, T]

    def attention(self, x, p, m, seg, aux):
        w, a = self.w, p + ".attn."
        B, T = seg.shape
        t = self.tab(B, T)
        co, si = t[4 if m else 0]
        q, kv, qr8 = proj(
            x, w[a + "wq_a"], w[a + "q_norm"], w[a + "wq_b"], w[a + "wkv"], w[a + "kv_norm"], co, si
        )
        if not m:
            o = attend0(q, kv, w[a + "attn_sink"], seg)
        else:
            ent = lambda c, k, x: compress(
                x,
                w[c + "wkv"],
                w[c + "wgate"],
                w[c + "ape"],
                w[c + "norm"],
                *t[f"e{m}"],
                F.pad(seg[:, m::m] != seg[:, :-m:m], (1, 0), value=True),
                self.had,
                m,
                k,
            )
            e, sel, sc = ent(a + "compressor.", HD, x), None, None
            if m == 4:
                if aux is not None or self.sparse:
                    iq, iw = index_q(
                        qr8,
                        x,
                        w[a + "indexer.wq_b"],
                        w[a + "indexer.weights_proj"],
                        co,
                        si,
                        self.had,
                    )
                    sc = index_score(iq, ent(a + "indexer.compressor.", ID, x.detach()), iw, seg)
                sel = (
                    torch.ones(1, 1, 1, dtype=torch.bool, device=self.dev)
                    .expand(B, T, T // 4)
                    .contiguous()
                    if not self.sparse or T // 4 <= C["index_topk"]
                    else sc.detach() >= sc.detach().topk(C["index_topk"], -1)[0][..., -1:]
                )
            o, mass = attend(q, kv, e, w[a + "attn_sink"], seg, sel, m)
            if m == 4 and aux is not None:
                aux.append(index_loss(sc, mass))
        return project_out(o, w[a + "wo_a"], w[a + "wo_b"], co, si)

    def block(self, X, b, ids, seg, aux):
        p, m, hashed = BLOCKS[b]
        w = self.w
        hc = lambda k: (
            w[f"{p}.hc_{k}_fn"],
            w[f"{p}.hc_{k}_base"],
            w[f"{p}.hc_{k}_scale"],
            w[f"{p}.{k}_norm"],
        )
        x, post, z = hc_in(X, *hc("attn"))
        c = self.sink(z)
        y = self.attention(x, p, m, seg, aux)
        X, x, post, z = hc_mid(y, X, post, c, *hc("ffn"))
        c = self.sink(z)
        f = p + ".ffn."
        W = route(
            x, w[f + "gate"], None if hashed else self.bias[p], self.tid[b] if hashed else None, ids
        )
        if not hashed:
            self.load[p] = (W.detach() > 0).float().mean(0)
        return hc_out(
            experts(x, W, w[f + "w13"], w[f + "w2"], w[f + "sh13"], w[f + "sh2"]), X, post, c
        )

    def trunk(self, ids, seg, aux=None):
        i = ids.flatten()
        X = F.embedding(i, self.w["embed"])[:, None].expand(-1, 4, -1).contiguous()
        for b in range(L):
            X = self.block(X, b, i, seg, aux)
        return X

    def hidden(self, X, p=""):
        return hc_head(
            X,
            self.w[p + "hc_head_fn"],
            self.w[p + "hc_head_base"],
            self.w[p + "hc_head_scale"],
            self.w[p + "norm"],
        )

    def mtp(self, X, ids, seg):  # row i uses X_i and token i+1, predicts token i+2
        i = ids.roll(-1, 1).flatten()
        w = self.w
        Y = mtp_in(
            X,
            F.embedding(i, w["embed"]),
            w["mtp.0.enorm"],
            w["mtp.0.hnorm"],
            w["mtp.0.e_proj"],
            w["mtp.0.h_proj"],
        )
        return self.hidden(self.block(Y, L, i, seg, None), "mtp.0.")

    def losses(self, ids, wt, seg, wm):
        """mean losses: next token, MTP, indexer; and hit masks"""
        aux = []
        X = self.trunk(ids, seg, aux)
        near = lambda k: F.pad(wt[:, k:] * (seg[:, k:] == seg[:, :-k]), (0, k)).flatten()
        tg = lambda k: ids.roll(-k, 1).flatten()
        w1, w2 = near(1), near(2)
        a, ha = loss_fn(self.hidden(X), self.w["head"], tg(1), w1)
        b, hb = loss_fn(self.mtp(X, ids, seg), self.w["head"], tg(2), w2)
        n = w1.sum().clamp_min(1)
        return a / n, b / n, sum(aux), (ha, w1, hb, w2)

    @torch.no_grad()
    def balance(self, u):
        for p, l in self.load.items():
            self.bias[p] += u * torch.sign(l.mean() - l)
