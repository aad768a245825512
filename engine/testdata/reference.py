"""An independent reference of the model, whole sequences at once, in numpy.

Two numerics: exact (float32 on the dequantised weights) and official (activations in BF16 and the
fake quantisations of the release's inference code). It is written for reading, not for speed.

    reference.py CHECKPOINT GOLDEN.safetensors exact|official

compares it with golden data: exact end to end, official layer by layer from the golden streams.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from formats import bf16, dequantise, fake_fp4, fake_fp8, from_bf16
from safetensors_file import read_checkpoint, read_file

F32 = np.float32


def rounded(function, x):
    """numpy's float32 functions are off by an ulp or two; these are the nearest float32."""
    return function(x.astype(np.float64)).astype(F32)


def exp(x):
    return rounded(np.exp, x)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def softmax(x, axis):
    e = exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


class Reference:
    """One model. After a run, `trace` holds what every layer did and `margin` the smallest distance
    between the last chosen and the first rejected expert or entry: how clear its choices were."""

    def __init__(self, config, tensors, official):
        self.config, self.tensors, self.official = config, tensors, official
        self.weights = {}
        self.trace, self.margin = {}, math.inf

    # ---- weights and roundings

    def plain(self, name):
        """A tensor that is stored under its bare name, as float32."""
        return dequantise(*self.tensors[name])

    def weight(self, name):
        if name not in self.weights:
            scale = self.tensors.get(name + ".scale", (None, None))[1]
            self.weights[name] = dequantise(*self.tensors[name + ".weight"], scale)
        return self.weights[name]

    def stored(self, x):
        """As an activation in memory: BF16 in official numerics."""
        return bf16(x) if self.official else x.astype(F32)

    def linear(self, x, name):
        """A quantised weight: the input is quantised too, in groups of 128."""
        return self.stored((fake_fp8(x, 128) if self.official else x) @ self.weight(name).T)

    def rms_norm(self, x, weight):
        mean = np.square(x).mean(-1, keepdims=True, dtype=F32)
        return self.stored(x * (1 / np.sqrt(mean + F32(self.config["rms_norm_eps"]))) * weight)

    # ---- rotary positions

    def frequencies(self, ratio):
        config, dim = self.config, self.config["qk_rope_head_dim"]
        base = float(config["compress_rope_theta"] if ratio else config["rope_theta"])
        power = (base ** (np.arange(0, dim, 2) / dim)).astype(F32)
        frequency = F32(1) / power  # both steps in float32, as the release has them
        if not ratio:
            return frequency
        yarn = config["rope_scaling"]
        length = yarn["original_max_position_embeddings"]

        def turns_at(turns):
            return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(turns_at(yarn["beta_fast"])), 0)
        high = min(math.ceil(turns_at(yarn["beta_slow"])), dim - 1)
        high += 0.001 if low == high else 0
        keep = 1 - np.clip((np.arange(dim // 2, dtype=F32) - low) / F32(high - low), 0, 1)
        return (frequency / yarn["factor"] * (1 - keep) + frequency * keep).astype(F32)

    def rope(self, x, positions, ratio, inverse=False):
        """x: [tokens, ..., dim]; turns the last channels, in pairs of neighbours."""
        dim = self.config["qk_rope_head_dim"]
        angle = positions.astype(F32)[:, None] * self.frequencies(ratio)
        shape = (x.shape[0],) + (1,) * (x.ndim - 2) + (dim // 2,)
        cos, sin = (rounded(turn, angle).reshape(shape) for turn in (np.cos, np.sin))
        if inverse:
            sin = -sin
        even, odd = x[..., -dim::2], x[..., -dim + 1 :: 2]
        turned = np.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
        turned = turned.reshape(*x.shape[:-1], dim)
        return self.stored(np.concatenate([x[..., :-dim], turned], -1))

    def hadamard(self, x):
        size, width = x.shape[-1], 1
        y = x
        while width < size:
            y = y.reshape(*x.shape[:-1], -1, 2, width)
            y = np.stack([y[..., 0, :] + y[..., 1, :], y[..., 0, :] - y[..., 1, :]], -2)
            y = y.reshape(x.shape)
            width *= 2
        return self.stored(y * F32(size**-0.5))

    # ---- hyper-connections: four residual streams

    def hyper_mix(self, streams, prefix):
        flat = streams.reshape(streams.shape[0], -1)
        mean = np.square(flat).mean(-1, keepdims=True, dtype=F32)
        return (
            flat @ self.plain(prefix + "_fn").T / np.sqrt(mean + F32(self.config["rms_norm_eps"]))
        )

    def hyper_pre(self, streams, prefix):
        """-> the layer's input [tokens, dim], and how its output goes back: post, comb."""
        n, eps = self.config["hc_mult"], F32(self.config["hc_eps"])
        mix = self.hyper_mix(streams, prefix)
        base, scale = self.plain(prefix + "_base"), self.plain(prefix + "_scale")
        pre = sigmoid(mix[:, :n] * scale[0] + base[:n]) + eps
        post = 2 * sigmoid(mix[:, n : 2 * n] * scale[1] + base[n : 2 * n])
        comb = (mix[:, 2 * n :] * scale[2] + base[2 * n :]).reshape(-1, n, n)
        comb = softmax(comb, -1) + eps
        comb = comb / (comb.sum(-2, keepdims=True) + eps)
        for _ in range(self.config["hc_sinkhorn_iters"] - 1):
            comb = comb / (comb.sum(-1, keepdims=True) + eps)
            comb = comb / (comb.sum(-2, keepdims=True) + eps)
        return self.stored((pre[..., None] * streams).sum(1)), post, comb

    def hyper_post(self, output, streams, post, comb):
        kept = np.einsum("tjk,tjd->tkd", comb, streams)
        return self.stored(post[..., None] * output[:, None] + kept)

    def hyper_head(self, streams, prefix):
        mix = self.hyper_mix(streams, prefix + "hc_head")
        scale, base = self.plain(prefix + "hc_head_scale"), self.plain(prefix + "hc_head_base")
        share = sigmoid(mix * scale + base) + F32(self.config["hc_eps"])
        return self.stored((share[..., None] * streams).sum(1))

    # ---- attention

    def compress(self, x, name, ratio, dim, for_index):
        """Entries [tokens // ratio, dim], each a weighted mean of its block's latents; with ratio 4
        of the block before, too, whose first half of channels is meant for the next block."""
        latent, score = x @ self.weight(name + ".wkv").T, x @ self.weight(name + ".wgate").T
        count = x.shape[0] // ratio
        if count == 0:
            return np.zeros((0, dim), F32)
        latent = latent[: count * ratio].reshape(count, ratio, -1)
        score = score[: count * ratio].reshape(count, ratio, -1) + self.plain(name + ".ape")
        if ratio == 4:
            before = np.zeros((count, ratio, dim), F32)
            before_score = np.full((count, ratio, dim), -np.inf, F32)
            before[1:], before_score[1:] = latent[:-1, :, :dim], score[:-1, :, :dim]
            latent = np.concatenate([before, latent[..., dim:]], 1)
            score = np.concatenate([before_score, score[..., dim:]], 1)
        entry = self.stored((latent * softmax(score, 1)).sum(1))
        entry = self.rms_norm(entry, self.weight(name + ".norm"))
        entry = self.rope(entry, np.arange(count) * ratio, ratio)
        if for_index:  # the rotation changes no product, so exact numerics leave it out
            return fake_fp4(self.hadamard(entry)) if self.official else entry
        return self.quantised_kv(entry)

    def quantised_kv(self, kv):
        """Attention state keeps its rotary channels in BF16 and the others in FP8."""
        if not self.official:
            return kv
        dim = self.config["qk_rope_head_dim"]
        return np.concatenate([bf16(fake_fp8(kv[:, :-dim], 64)), kv[:, -dim:]], -1)

    def select(self, x, latent_q, prefix, visible):
        """Which of the visible entries each token attends to: the index_topk best by the indexer."""
        config, positions = self.config, np.arange(x.shape[0])
        heads, dim = config["index_n_heads"], config["index_head_dim"]
        query = self.linear(latent_q, prefix + ".indexer.wq_b").reshape(-1, heads, dim)
        query = self.rope(query, positions, 4)
        if self.official:
            query = fake_fp4(self.hadamard(query))
        key = self.compress(x, prefix + ".indexer.compressor", 4, dim, True)
        share = self.stored(x @ self.weight(prefix + ".indexer.weights_proj").T)
        share = self.stored(share * F32(dim**-0.5 * heads**-0.5))
        score = np.maximum(self.stored(query @ key.T), 0)  # [tokens, heads, entries]
        score = self.stored(self.stored(score * share[..., None]).sum(1))
        score = np.where(visible, score, -np.inf)

        keep = min(config["index_topk"], score.shape[1])
        order = np.argsort(-score, -1, kind="stable")
        selected = np.zeros_like(visible)
        np.put_along_axis(selected, order[:, :keep], True, -1)
        choosing = visible.sum(1) > keep
        if choosing.any():
            ranked = np.take_along_axis(score, order, -1)[choosing]
            gap = (ranked[:, keep - 1] - ranked[:, keep]) / np.maximum(np.abs(ranked[:, 0]), 1e-9)
            self.margin = min(self.margin, float(gap.min()))
        self.trace[prefix + ".selected"] = visible & selected
        return visible & selected

    def normed_heads(self, query):
        """RMS norm of each head, without a weight, with every step in BF16 as the release does."""
        eps = F32(self.config["rms_norm_eps"])
        if not self.official:
            mean = np.square(query).mean(-1, keepdims=True, dtype=F32)
            return query * (1 / np.sqrt(mean + eps))
        mean = bf16(bf16(np.square(query)).mean(-1, keepdims=True, dtype=F32))
        return bf16(query * bf16(1 / np.sqrt(bf16(mean + eps))))

    def attention(self, x, prefix, ratio):
        config, tokens = self.config, x.shape[0]
        heads, dim = config["num_attention_heads"], config["head_dim"]
        positions = np.arange(tokens)

        latent_q = self.rms_norm(self.linear(x, prefix + ".wq_a"), self.weight(prefix + ".q_norm"))
        query = self.linear(latent_q, prefix + ".wq_b").reshape(tokens, heads, dim)
        query = self.rope(self.normed_heads(query), positions, ratio)
        keys = self.rms_norm(self.linear(x, prefix + ".wkv"), self.weight(prefix + ".kv_norm"))
        keys = self.quantised_kv(self.rope(keys, positions, ratio))
        age = positions[:, None] - positions
        visible = (age >= 0) & (age < config["sliding_window"])
        if ratio:
            entries = self.compress(x, prefix + ".compressor", ratio, dim, False)
            known = np.arange(len(entries)) < ((positions + 1) // ratio)[:, None]
            if ratio == 4 and len(entries):
                known = self.select(x, latent_q, prefix, known)
            keys, visible = np.concatenate([keys, entries]), np.concatenate([visible, known], 1)

        score = np.where(visible[:, None], query @ keys.T * F32(dim**-0.5), -np.inf)
        peak = score.max(-1, keepdims=True)
        share = exp(score - peak)
        sink = self.plain(prefix + ".attn_sink")[None, :, None]
        total = share.sum(-1, keepdims=True) + exp(sink - peak)
        output = self.stored(self.stored(share) @ keys / total)
        output = self.rope(output, positions, ratio, inverse=True)

        groups, rank = config["o_groups"], config["o_lora_rank"]
        output = output.reshape(tokens, groups, -1)
        down = self.weight(prefix + ".wo_a").reshape(groups, rank, -1)
        if self.official:
            down = bf16(down)
        output = np.stack([output[:, g] @ down[g].T for g in range(groups)], 1)
        return self.linear(self.stored(output).reshape(tokens, -1), prefix + ".wo_b")

    # ---- experts

    def expert(self, x, name, share=None):
        limit = F32(self.config["swiglu_limit"])
        gate = np.minimum(self.linear(x, name + ".w1"), limit)
        up = np.clip(self.linear(x, name + ".w3"), -limit, limit)
        hidden = gate * sigmoid(gate) * up
        if share is not None:
            hidden = share[:, None] * hidden
        return self.linear(self.stored(hidden), name + ".w2")

    def choose_experts(self, score, prefix, ids):
        if prefix + ".gate.tid2eid" in self.tensors:
            return self.tensors[prefix + ".gate.tid2eid"][1][ids]
        keep = self.config["num_experts_per_tok"]
        biased = score + self.plain(prefix + ".gate.bias")
        order = np.argsort(-biased, -1, kind="stable")
        ranked = np.take_along_axis(biased, order, -1)
        self.margin = min(self.margin, float((ranked[:, keep - 1] - ranked[:, keep]).min()))
        return order[:, :keep]

    def experts(self, x, prefix, ids):
        logit = x @ self.weight(prefix + ".gate").T
        score = np.sqrt(np.where(logit > 20, logit, rounded(np.log1p, exp(np.minimum(logit, 20)))))
        chosen = self.choose_experts(score, prefix, ids)
        share = np.take_along_axis(score, chosen, 1)
        share = share / share.sum(-1, keepdims=True) * F32(self.config["routed_scaling_factor"])
        self.trace[prefix + ".experts"] = chosen
        output = np.zeros_like(x)
        for expert in range(self.config["n_routed_experts"]):
            token, slot = np.where(chosen == expert)
            if len(token):
                name = f"{prefix}.experts.{expert}"
                output[token] += self.expert(x[token], name, share[token, slot])
        return self.stored(output + self.expert(x, prefix + ".shared_experts"))

    # ---- the whole

    def block(self, streams, prefix, ratio, ids):
        x, post, comb = self.hyper_pre(streams, prefix + ".hc_attn")
        x = self.rms_norm(x, self.weight(prefix + ".attn_norm"))
        streams = self.hyper_post(self.attention(x, prefix + ".attn", ratio), streams, post, comb)
        x, post, comb = self.hyper_pre(streams, prefix + ".hc_ffn")
        x = self.rms_norm(x, self.weight(prefix + ".ffn_norm"))
        return self.hyper_post(self.experts(x, prefix + ".ffn", ids), streams, post, comb)

    def embed(self, ids):
        return np.repeat(self.weight("embed")[ids][:, None], self.config["hc_mult"], 1)

    def layer(self, streams, layer, ids):
        return self.block(streams, f"layers.{layer}", self.config["compress_ratios"][layer], ids)

    def logits(self, streams, prefix=""):
        x = self.rms_norm(self.hyper_head(streams, prefix), self.weight(prefix + "norm"))
        return x @ self.weight("head").T

    def forward(self, ids):
        """-> logits [tokens, vocab] and the streams after each layer."""
        streams, after = self.embed(ids), []
        for layer in range(self.config["num_hidden_layers"]):
            streams = self.layer(streams, layer, ids)
            after.append(streams)
        return self.logits(streams), after

    def draft_logits(self, streams, ids):
        """The MTP block: row i sees the streams of token i and the token after it."""
        token = self.rms_norm(self.weight("embed")[ids[1:]], self.weight("mtp.0.enorm"))
        past = self.rms_norm(streams[:-1], self.weight("mtp.0.hnorm"))
        mixed = self.linear(token, "mtp.0.e_proj")[:, None] + self.linear(past, "mtp.0.h_proj")
        streams = self.block(self.stored(mixed), "mtp.0", 0, ids[1:])
        return self.logits(streams, "mtp.0.")


def distance(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def compare_exact(model, golden):
    """True when every comparison holds."""
    ids = golden["tokens"][1]
    logits, after = model.forward(ids)
    results = [("logits", distance(logits, golden["logits"][1]))]
    drafts = model.draft_logits(after[-1], ids)
    results.append(("mtp_logits", distance(drafts, golden["mtp_logits"][1])))
    rows = golden["stream_positions"][1]
    for layer, streams in enumerate(after):
        wanted = golden[f"streams.{layer}"][1]
        results.append((f"streams.{layer}", distance(streams[rows], wanted)))
    for name, error in results:
        print(f"{name:12} relative error {error:.2e}, limit 1e-05")
    return all(error < 1e-5 for _, error in results)


def token_errors(found, wanted):
    """The relative error of each token."""
    rows = len(wanted)
    difference = np.linalg.norm((found - wanted).reshape(rows, -1), axis=1)
    return difference / np.linalg.norm(wanted.reshape(rows, -1), axis=1)


def compare_official(model, golden):
    """Each layer starts from the golden streams before it: end to end, roundings are chaotic, and
    even within a layer one last bit may turn a quantiser and with it some tokens."""
    ids = golden["tokens"][1]
    before, results = model.embed(ids), []
    for layer in range(model.config["num_hidden_layers"]):
        wanted = from_bf16(golden[f"streams.{layer}"][1])
        results.append((f"layer {layer}", token_errors(model.layer(before, layer, ids), wanted)))
        before = wanted
    results.append(("logits", token_errors(model.logits(before), golden["logits"][1])))
    drafts = model.draft_logits(before, ids)
    results.append(("mtp_logits", token_errors(drafts, golden["mtp_logits"][1])))
    for name, error in results:
        print(
            f"{name:12} median token error {np.median(error):.2e}, limit 2e-03; "
            f"above 5e-02: {(error > 5e-2).mean():.3f} of the tokens, limit 0.05"
        )
    return all(np.median(error) < 2e-3 and (error > 5e-2).mean() < 0.05 for _, error in results)


def main(checkpoint, golden, numerics):
    config = json.loads((Path(checkpoint) / "config.json").read_text())
    model = Reference(config, read_checkpoint(checkpoint), numerics == "official")
    compare = compare_official if model.official else compare_exact
    return 0 if compare(model, read_file(golden)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
