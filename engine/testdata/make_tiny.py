"""Makes the two tiny checkpoints of the tests, with golden data from reference.py.

    make_tiny.py tiny DIRECTORY      Flash-like: hash and sliding, then CSA, then HCA; one shard
    make_tiny.py other DIRECTORY     Pro-like: HCA first, 3 heads in 3 groups, 3 of 6 experts, shards

Weights are random but of the release's own names, types and quantisation; every width stays a
multiple of 128, where FP8 blocks need it, and heads keep their real 512 channels. The tokens are
chosen so that no expert or entry is chosen by a hair.
"""

import json
import sys
from pathlib import Path

import numpy as np

from formats import bf16_bits, quantise_fp4, quantise_fp8
from reference import Reference
from safetensors_file import write_file

F32 = np.float32
TOKENS = 268  # two HCA entries, 67 CSA entries, and the window wraps twice
TOKEN_SEEDS = 12

TINY = dict(
    architectures=["DeepseekV4ForCausalLM"],
    model_type="deepseek_v4",
    vocab_size=128,
    hidden_size=128,
    moe_intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=512,
    qk_rope_head_dim=64,
    q_lora_rank=128,
    o_groups=2,
    o_lora_rank=128,
    sliding_window=128,
    n_routed_experts=4,
    n_shared_experts=1,
    num_experts_per_tok=2,
    num_hash_layers=1,
    routed_scaling_factor=1.5,
    norm_topk_prob=True,
    scoring_func="sqrtsoftplus",
    topk_method="noaux_tc",
    swiglu_limit=10.0,
    hidden_act="silu",
    index_n_heads=8,
    index_head_dim=128,
    index_topk=16,
    hc_mult=4,
    hc_sinkhorn_iters=20,
    hc_eps=1e-6,
    rms_norm_eps=1e-6,
    rope_theta=10000,
    compress_rope_theta=160000,
    rope_scaling=dict(
        type="yarn", factor=16, beta_fast=32, beta_slow=1, original_max_position_embeddings=65536
    ),
    max_position_embeddings=1048576,
    num_nextn_predict_layers=1,
    expert_dtype="fp4",
    compress_ratios=[0, 4, 128, 0],
    quantization_config=dict(
        activation_scheme="dynamic",
        fmt="e4m3",
        quant_method="fp8",
        scale_fmt="ue8m0",
        weight_block_size=[128, 128],
    ),
    tie_word_embeddings=False,
    attention_bias=False,
    attention_dropout=0.0,
    bos_token_id=0,
    eos_token_id=1,
    torch_dtype="bfloat16",
    use_cache=True,
    initializer_range=0.02,
)

OTHER = TINY | dict(
    vocab_size=160,
    num_hidden_layers=2,
    num_attention_heads=3,
    o_groups=3,
    n_routed_experts=6,
    num_experts_per_tok=3,
    num_hash_layers=2,
    routed_scaling_factor=2.5,
    index_topk=24,
    compress_ratios=[128, 4],
    num_nextn_predict_layers=0,
)

# name: configuration, shards, seed of the weights
CHECKPOINTS = {"tiny": (TINY, 1, 1), "other": (OTHER, 3, 4)}


class Weights:
    """Random tensors under the release's names: {name: (dtype, array)}."""

    def __init__(self, config, seed):
        self.config, self.random = config, np.random.default_rng(seed)
        self.tensors = {}

    def normal(self, *shape, std=1.0):
        return (self.random.standard_normal(shape) * std).astype(F32)

    def f32(self, name, array):
        self.tensors[name] = ("F32", array)

    def bf16(self, name, array):
        self.tensors[name + ".weight"] = ("BF16", bf16_bits(array))

    def fp8(self, name, rows, columns, std=None):
        weight, scale = quantise_fp8(self.normal(rows, columns, std=std or columns**-0.5))
        self.tensors[name + ".weight"] = ("F8_E4M3", weight)
        self.tensors[name + ".scale"] = ("F8_E8M0", scale)

    def fp4(self, name, rows, columns, std):
        weight, scale = quantise_fp4(self.normal(rows, columns, std=std))
        self.tensors[name + ".weight"] = ("I8", weight)
        self.tensors[name + ".scale"] = ("F8_E8M0", scale)

    def norm(self, name, size):
        self.bf16(name, 1 + self.normal(size, std=0.1))

    def compressor(self, name, ratio, size):
        width, dim = size * (2 if ratio == 4 else 1), self.config["hidden_size"]
        self.f32(name + ".ape", self.normal(ratio, width, std=0.5))
        self.bf16(name + ".wkv", self.normal(width, dim, std=dim**-0.5))
        self.bf16(name + ".wgate", self.normal(width, dim, std=dim**-0.5))
        self.norm(name + ".norm", size)

    def hyper(self, prefix, part):
        streams, dim = self.config["hc_mult"], self.config["hidden_size"]
        rows = streams * (2 + streams)
        std = (streams * dim) ** -0.5
        self.f32(f"{prefix}.hc_{part}_fn", self.normal(rows, streams * dim, std=std))
        self.f32(f"{prefix}.hc_{part}_base", self.normal(rows, std=0.5))
        self.f32(f"{prefix}.hc_{part}_scale", np.array([0.7, 0.9, 1.1], F32))
        self.norm(f"{prefix}.{part}_norm", dim)

    def hyper_head(self, prefix):
        streams, dim = self.config["hc_mult"], self.config["hidden_size"]
        std = (streams * dim) ** -0.5
        self.f32(prefix + "hc_head_fn", self.normal(streams, streams * dim, std=std))
        self.f32(prefix + "hc_head_base", self.normal(streams, std=0.5))
        self.f32(prefix + "hc_head_scale", np.array([0.8], F32))

    def attention(self, name, ratio):
        config = self.config
        dim, latent = config["hidden_size"], config["q_lora_rank"]
        heads, size = config["num_attention_heads"], config["head_dim"]
        groups, rank = config["o_groups"], config["o_lora_rank"]
        self.f32(name + ".attn_sink", self.normal(heads))
        self.fp8(name + ".wq_a", latent, dim)
        self.norm(name + ".q_norm", latent)
        self.fp8(name + ".wq_b", heads * size, latent)
        self.fp8(name + ".wkv", size, dim)
        self.norm(name + ".kv_norm", size)
        self.fp8(name + ".wo_a", groups * rank, heads * size // groups)
        self.fp8(name + ".wo_b", dim, groups * rank)
        if ratio:
            self.compressor(name + ".compressor", ratio, size)
        if ratio == 4:
            index_heads, index_size = config["index_n_heads"], config["index_head_dim"]
            self.fp8(name + ".indexer.wq_b", index_heads * index_size, latent)
            self.bf16(name + ".indexer.weights_proj", self.normal(index_heads, dim, std=dim**-0.5))
            self.compressor(name + ".indexer.compressor", 4, index_size)

    def experts(self, name, hashed):
        config = self.config
        dim, width = config["hidden_size"], config["moe_intermediate_size"]
        count, chosen = config["n_routed_experts"], config["num_experts_per_tok"]
        self.bf16(name + ".gate", self.normal(count, dim, std=2 * dim**-0.5))
        if hashed:
            rows = [self.random.permutation(count)[:chosen] for _ in range(config["vocab_size"])]
            self.tensors[name + ".gate.tid2eid"] = ("I64", np.stack(rows))
        else:
            self.f32(name + ".gate.bias", self.normal(count, std=0.3))
        # Wide first matrices reach the clamp; small last ones keep the streams in bounds.
        for make, prefix in [(self.fp4, f"{name}.experts.{e}") for e in range(count)] + [
            (self.fp8, name + ".shared_experts")
        ]:
            make(prefix + ".w1", width, dim, std=3 * dim**-0.5)
            make(prefix + ".w3", width, dim, std=3 * dim**-0.5)
            make(prefix + ".w2", dim, width, std=0.3 * width**-0.5)

    def block(self, prefix, ratio, hashed):
        self.hyper(prefix, "attn")
        self.attention(prefix + ".attn", ratio)
        self.hyper(prefix, "ffn")
        self.experts(prefix + ".ffn", hashed)

    def fill(self):
        config = self.config
        dim, vocab = config["hidden_size"], config["vocab_size"]
        self.bf16("embed", self.normal(vocab, dim))
        for layer in range(config["num_hidden_layers"]):
            ratio = config["compress_ratios"][layer]
            self.block(f"layers.{layer}", ratio, layer < config["num_hash_layers"])
        self.hyper_head("")
        self.norm("norm", dim)
        self.bf16("head", self.normal(vocab, dim, std=dim**-0.5))
        if config["num_nextn_predict_layers"]:
            self.block("mtp.0", 0, False)
            self.fp8("mtp.0.e_proj", dim, dim)
            self.fp8("mtp.0.h_proj", dim, dim)
            for name in ("enorm", "hnorm", "norm"):
                self.norm("mtp.0." + name, dim)
            self.hyper_head("mtp.0.")
        return self.tensors


def write_checkpoint(directory, config, tensors, shards):
    """Shards as the release cuts them: layers whole, and a few of them in each file."""
    directory.mkdir(parents=True, exist_ok=True)
    units = sorted({".".join(name.split(".")[:2]) for name in tensors})
    of_unit = {unit: index * shards // len(units) for index, unit in enumerate(units)}
    files = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    weight_map = {}
    for shard, file in enumerate(files):
        part = {
            name: tensor
            for name, tensor in tensors.items()
            if of_unit[".".join(name.split(".")[:2])] == shard
        }
        write_file(directory / file, part)
        weight_map |= dict.fromkeys(part, file)
    total = sum(array.nbytes for _, array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=0)
    (directory / "model.safetensors.index.json").write_text(text + "\n")
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def clearest_tokens(config, tensors):
    """The random tokens whose discrete choices have the widest margin."""
    best_margin, best = -1.0, None
    for seed in range(TOKEN_SEEDS):
        ids = np.random.default_rng(seed).integers(0, config["vocab_size"], TOKENS)
        model = Reference(config, tensors, official=False)
        _, after = model.forward(ids)
        if config["num_nextn_predict_layers"]:
            model.draft_logits(after[-1], ids)
        if model.margin > best_margin:
            best_margin, best = model.margin, ids
    print(f"smallest top-k margin {best_margin:.1e}")
    return best


def golden(config, tensors, ids, official):
    model = Reference(config, tensors, official)
    logits, after = model.forward(ids)
    data = {"tokens": ("I32", ids), "logits": ("F32", logits)}
    if config["num_nextn_predict_layers"]:
        data["mtp_logits"] = ("F32", model.draft_logits(after[-1], ids))
    # Official numerics are compared layer by layer, so each layer's input is kept whole.
    rows = np.arange(TOKENS) if official else np.unique(np.r_[0:3, 126:130, 254:257, 265:268, 0:TOKENS:64])
    data["stream_positions"] = ("I32", rows)
    for layer, streams in enumerate(after):
        kept = streams[rows]
        data[f"streams.{layer}"] = ("BF16", bf16_bits(kept)) if official else ("F32", kept)
        data[f"experts.{layer}"] = ("I32", model.trace[f"layers.{layer}.ffn.experts"])
        if config["compress_ratios"][layer] == 4:
            selected = model.trace[f"layers.{layer}.attn.selected"]
            data[f"selected.{layer}"] = ("U8", selected)
    return data


def main(name, directory):
    config, shards, seed = CHECKPOINTS[name]
    directory = Path(directory)
    tensors = Weights(config, seed).fill()
    write_checkpoint(directory, config, tensors, shards)
    ids = clearest_tokens(config, tensors)
    for numerics in ("exact", "official"):
        data = golden(config, tensors, ids, numerics == "official")
        write_file(directory / f"golden_{numerics}.safetensors", data)


if __name__ == "__main__":
    main(*sys.argv[1:])
