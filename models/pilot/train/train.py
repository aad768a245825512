"""Trains the pilot model for a fixed time. Usage: train.py OUTDIR TOKENIZER_DIR SECONDS [--start CHECKPOINT] [--lr X]
Phases (share of the time): FP8 everywhere from the start; FP4 experts from 30 %; sparse selection, 4K and 8K rows from 55 %.
"""

import argparse
import math
import os
import random
import time

T0 = time.time()
import data

ap = argparse.ArgumentParser()
ap.add_argument("out")
ap.add_argument("tok")
ap.add_argument("seconds", type=float)
ap.add_argument("--start", default="")
ap.add_argument("--lr", type=float, default=2.5e-3)
ap.add_argument("--workers", type=int, default=14)
ap.add_argument("--batch", type=int, default=32768)
ap.add_argument("--row", type=int, default=0, help="one fixed row length")
ap.add_argument("--smoke", action="store_true")
ap.add_argument("--cache", default="")
ap.add_argument("--seed", type=int, default=1000)
ap.add_argument("--muon", type=float, default=1.0)
A = ap.parse_args()
queue, long, procs = data.start(
    A.tok + "/tokenizer.json", A.workers, A.batch, A.seed, -A.row
)  # fork before CUDA starts

import torch
import export
from config import BF, D, E, G, H, HD, I, OR, QR
from model import J, Net
from params import Params
from sinkhorn import Sinkhorn, sinkhorn_plain

torch._dynamo.config.automatic_dynamic_shapes = False
for k in (
    "cache_size_limit",
    "recompile_limit",
    "accumulated_recompile_limit",
    "accumulated_cache_size_limit",
):
    try:
        setattr(torch._dynamo.config, k, 256)
    except Exception:
        pass
torch.set_float32_matmul_precision("high")
os.makedirs(A.out, exist_ok=True)
log = open(A.out + "/log.txt", "w")


def say(*a):
    s = " ".join(str(x) for x in a)
    print(f"[{time.time() - T0:6.1f}] {s}", flush=True)
    log.write(f"[{time.time() - T0:6.1f}] {s}\n")
    log.flush()


if A.cache and os.path.exists(A.cache):
    try:
        torch.compiler.load_cache_artifacts(open(A.cache, "rb").read())
        say("compile cache loaded")
    except Exception as e:
        say("no cache:", repr(e)[:200])
dev = "cuda"
P = Params(dev)
net = Net(P, dev)
J.on = True
if A.start:
    export.load(P, net, A.start)


# ---------------------------------------------------------------- optimiser: Muon for matrices, Adam for the rest
def views(n, t):
    if n.endswith(".w13"):
        return t.view(2 * E, I, D)
    if n.endswith(".w2"):
        return t.view(D, E, I).transpose(0, 1)
    if n.endswith(".wo_a"):
        return t.view(G, OR, -1)
    if n.endswith("attn.wq_b"):
        return t.view(H, HD, QR)
    if n.endswith(".sh13"):
        return t.view(2, I, D)
    return t[None]


state = {
    k: (torch.zeros_like(v), torch.zeros_like(v) if k in ("f32", "bf16") else None)
    for k, v in P.flat.items()
}
mask = {k: torch.ones_like(P.flat[k]) for k in ("f32", "bf16")}
groups, off = {}, {k: 0 for k in P.flat}
for n, (sh, k, opt) in P.spec.items():
    c = math.prod(sh)
    o = off[k]
    off[k] += c
    if opt == "muon":
        if k in mask:
            mask[k][o : o + c] = 0
        v = views(n, P.flat[k][o : o + c].view(sh))
        groups.setdefault(tuple(v.shape[1:]), []).append((v, k, o, c, sh, n))
upd = {k: torch.zeros_like(v) for k, v in P.flat.items()}
pairs = {
    s: ([x[0] for x in g], [views(x[5], upd[x[1]][x[2] : x[2] + x[3]].view(x[4])) for x in g])
    for s, g in groups.items()
}


def orthogonal(x):  # Newton-Schulz
    t = x.shape[1] > x.shape[2]
    x = (x.transpose(1, 2) if t else x).to(BF)
    x = x / (x.float().square().sum((1, 2), keepdim=True).sqrt() + 1e-12).to(BF)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.transpose(1, 2) if t else x


step_no = 0


@torch.no_grad()
def update(lr):
    global step_no
    step_no += 1
    gn = torch.stack([g.float().square().sum() for g in P.grad.values()]).sum().sqrt()
    ok = torch.isfinite(gn)
    sc = torch.where(ok, (1.0 / (gn + 1e-9)).clamp(max=1.0), 0.0)
    b1, b2 = 0.9, 0.98
    for k, g in P.grad.items():
        g = torch.nan_to_num(g.float()) * sc
        m, v = state[k]
        if v is not None:
            m.lerp_(g, 1 - b1)
            v.lerp_(g * g, 1 - b2)
            a = (m / (1 - b1**step_no)) / ((v / (1 - b2**step_no)).sqrt() + 1e-9)
            P.flat[k].add_(a * mask[k], alpha=-lr * (0.4 if k == "f32" else 1))
            upd[k].copy_(g.lerp(m, b1))
        else:
            m.lerp_(g, 0.05)
            upd[k].copy_(g.lerp(m, 0.95))
    for sh, (ws, us) in pairs.items():
        o = orthogonal(torch.cat(us)).float()
        a = lr * A.muon * 0.2 * max(sh) ** 0.5
        torch._foreach_mul_(ws, 1 - 0.1 * lr)
        torch._foreach_add_(ws, list(torch.split(o, [w.shape[0] for w in ws])), alpha=-a)
    for g in P.grad.values():
        g.zero_()


def put(x):
    ids, w, seg = (torch.from_numpy(a).to(dev, non_blocking=True) for a in x[:3])
    return ids.long(), w.float() / 100, seg.long().repeat_interleave(128, 1)


def run(x, backward=True):
    a, b, i, hits = net.losses(*put(x), None)
    if backward:
        (a + 0.3 * b + 0.1 * i).backward()
    return a.detach(), b.detach(), i.detach() if torch.is_tensor(i) else i, hits


from tokenizers import Tokenizer

tok = Tokenizer.from_file(A.tok + "/tokenizer.json")
rv = random.Random(77)
data.words.PIECES[:] = data.pieces(tok)
held = [data.batch(rv, tok, A.batch // (A.row or 2048), A.row or 2048, []) for _ in range(4)]


def evaluate(tag):
    stat = {}
    for x in held:
        _, _, _, (ha, _, hb, _) = run(x, False)
        ha, hb = ha.view(x[0].shape).cpu().numpy(), hb.view(x[0].shape).cpu().numpy()
        for b, s, e, k in x[3]:
            z = stat.setdefault(data.SKILLS[k], [0, 0, 0, 0, 0, 0])
            h, g = ha[b, s - 1 : e - 1], hb[b, s - 1 : e - 2]
            z[0] += 1
            z[1] += bool(h.all())
            z[2] += h.size
            z[3] += int(h.sum())
            z[4] += g.size
            z[5] += int(g.sum())
    say(
        tag,
        "turn-exact/token/mtp:",
        "  ".join(
            f"{k} {z[1]/z[0]:.3f}/{z[3]/max(z[2],1):.4f}/{z[5]/max(z[4],1):.3f} (n={z[0]})"
            for k, z in stat.items()
        ),
    )


# ---------------------------------------------------------------- check, warm up (compile), train
z = torch.randn(1000, 16, device=dev) * 2
z1, z2 = z.clone().requires_grad_(), z.clone().requires_grad_()
g = torch.randn_like(z)
try:
    a = Sinkhorn.apply(z1)
    a.backward(g)
    b = sinkhorn_plain(z2)
    b.backward(g)
    d = (a - b).abs().max().item(), (z1.grad - z2.grad).abs().max().item()
    say("sinkhorn kernel vs plain", d)
    assert max(d) < 1e-3
except Exception as e:
    say("sinkhorn kernel fails, plain version used:", repr(e)[:500])
    net.sink = sinkhorn_plain
P.sync(True)


def fake(T):
    r = random.Random(5)
    return data.batch(r, tok, A.batch // T, T, [])


for sparse, T in (
    ((True, A.row),) if A.row else ((False, 2048), (True, 4096), (True, 8192), (True, 2048))
):
    net.sparse = sparse
    x = fake(T)
    run(x)
    torch.cuda.synchronize()
    say("compiled", sparse, T, "peak GiB %.1f" % (torch.cuda.max_memory_allocated() / 2**30))
for gr in P.grad.values():
    gr.zero_()
net.sparse = False
if A.smoke:
    for sparse, T in ((False, 2048), (True, 4096), (True, 2048)):
        net.sparse = sparse
        x = fake(T)
        run(x)
        torch.cuda.synchronize()
        t = time.time()
        for _ in range(5):
            run(x)
        torch.cuda.synchronize()
        say("fwd+bwd ms", sparse, T, (time.time() - t) / 5 * 1e3)
    for gr in P.grad.values():
        gr.zero_()
    net.sparse = False
    update(0.0)
    torch.cuda.synchronize()
    t = time.time()
    update(0.0)
    P.sync()
    torch.cuda.synchronize()
    say("optimiser ms", (time.time() - t) * 1e3)
    torch.cuda.synchronize()
    t = time.time()
    [queue.get() for _ in range(60)]
    say("batches/s from workers (after backlog)", 60 / (time.time() - t))
start = time.time()
total = A.seconds - (start - T0)
ema = [0.0, 0.0, 0.0]
n = 0
next_eval = 0.12
next_save = 0.7
acc = None
say("training for %.0f s" % total)
while True:
    p = (time.time() - start) / total
    if p >= 1:
        break
    fp4 = bool(A.start) or p > 0.30
    net.sparse = bool(A.start) or p > 0.55
    long.value = -A.row if A.row else 0.3 if net.sparse else 0.0
    lr = A.lr * min(1, (n + 1) / 200) * min(1, max(0.02, (1 - p) / 0.7))
    P.sync(fp4)
    a, b, i, _ = run(queue.get())
    update(lr)
    net.balance(1e-3 if p < 0.8 else 2e-4)
    n += 1
    acc = torch.stack([a, b, i]) if acc is None else acc + torch.stack([a, b, i])
    if n % 100 == 0:
        say(
            f"step {n} p {p:.3f} lr {lr:.2e} loss/mtp/index",
            " ".join(f"{v / 100:.4f}" for v in acc.tolist()),
            f"queue {queue.qsize()}",
        )
        acc = None
    if p > next_save:
        next_save += 0.2
        P.sync(True)
        export.export(P, net, A.out)
        say("saved")
    if p > next_eval and not A.smoke:
        next_eval += 0.12
        P.sync(True)
        evaluate(f"eval p={p:.2f}")
say("steps", n, "tokens", n * A.batch)
P.sync(True)
net.sparse = True
t, size = export.export(P, net, A.out)
say("exported bytes", size)
if not A.smoke:
    evaluate("final")
if A.smoke:
    try:
        art = torch.compiler.save_cache_artifacts()
        open(A.out + "/cache.bin", "wb").write(art[0])
        say("cache bytes", len(art[0]))
    except Exception as e:
        say("cache:", repr(e)[:300])
for pr in procs:
    pr.kill()
log.close()
