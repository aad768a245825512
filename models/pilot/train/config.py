"""The pilot's configuration, as its config.json says it, and short names for its sizes."""

import torch

BF, F32 = torch.bfloat16, torch.float32
CFG = dict(
    architectures=["DeepseekV4ForCausalLM"],
    model_type="deepseek_v4",
    vocab_size=3072,
    hidden_size=256,
    moe_intermediate_size=256,
    num_hidden_layers=7,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=512,
    qk_rope_head_dim=64,
    q_lora_rank=128,
    o_groups=2,
    o_lora_rank=128,
    sliding_window=128,
    n_routed_experts=8,
    n_shared_experts=1,
    num_experts_per_tok=2,
    num_hash_layers=3,
    routed_scaling_factor=1.5,
    norm_topk_prob=True,
    scoring_func="sqrtsoftplus",
    topk_method="noaux_tc",
    swiglu_limit=10.0,
    hidden_act="silu",
    index_n_heads=8,
    index_head_dim=128,
    index_topk=128,
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
    compress_ratios=[0, 0, 4, 128, 4, 128, 4, 0],
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
C = CFG
D, H, HD, RD, QR, G, OR = (
    C["hidden_size"],
    C["num_attention_heads"],
    512,
    64,
    C["q_lora_rank"],
    C["o_groups"],
    C["o_lora_rank"],
)
E, K, I, NH, ID, L = (
    C["n_routed_experts"],
    C["num_experts_per_tok"],
    C["moe_intermediate_size"],
    C["index_n_heads"],
    C["index_head_dim"],
    C["num_hidden_layers"],
)
EPS, LIM, SC = 1e-6, C["swiglu_limit"], C["routed_scaling_factor"]
BLOCKS = [(f"layers.{l}", C["compress_ratios"][l], l < C["num_hash_layers"]) for l in range(L)] + [
    ("mtp.0", 0, False)
]
