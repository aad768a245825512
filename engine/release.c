/* release.c - the numbers of the published models (model.md 1.1, 12), for writing files like theirs. */
#include "engine/model_writer.h"

struct release {
    const char *name;
    bool pro;
    enum dtype expert_type;
    enum drafter drafter;
};

static const struct release releases[] = {
    { "flash", false, DT_I8, DRAFTER_MTP },           { "pro", true, DT_I8, DRAFTER_MTP },
    { "flash-base", false, DT_F8_E4M3, DRAFTER_MTP }, { "pro-base", true, DT_F8_E4M3, DRAFTER_MTP },
    { "flash-0731", false, DT_I8, DRAFTER_DSPARK },   { "pro-0813", true, DT_I8, DRAFTER_DSPARK },
};

static struct shape common_shape(void)
{
    return (struct shape){
        .vocab = 129280,
        .head_dim = 512,
        .rope_dim = 64,
        .o_rank = 1024,
        .window = 128,
        .index_heads = 64,
        .index_dim = 128,
        .experts_per_token = 6,
        .hash_layers = 3,
        .swiglu_limit = 10,
        .streams = 4,
        .sinkhorn_iters = 20,
        .hc_eps = 1e-6f,
        .norm_eps = 1e-6f,
        .rope_theta = 10000,
        .compress_rope_theta = 160000,
        .yarn_factor = 16,
        .yarn_beta_fast = 32,
        .yarn_beta_slow = 1,
        .yarn_original = 65536,
        .positions = 1048576,
        .bos = 0,
        .eos = 1,
    };
}

static void make_flash(struct shape *s)
{
    s->hidden = 4096;
    s->layers = 43;
    s->heads = 64;
    s->q_rank = 1024;
    s->o_groups = 8;
    s->index_topk = 512;
    s->experts = 256;
    s->inter = 2048;
    s->routed_scaling = 1.5f;
}

static void make_pro(struct shape *s)
{
    s->hidden = 7168;
    s->layers = 61;
    s->heads = 128;
    s->q_rank = 1536;
    s->o_groups = 16;
    s->index_topk = 1024;
    s->experts = 384;
    s->inter = 3072;
    s->routed_scaling = 2.5f;
}

bool shape_of_release(const char *name, struct shape *shape)
{
    const struct release *release = NULL;

    for (size_t i = 0; i < sizeof releases / sizeof *releases; i++)
        if (strcmp(releases[i].name, name) == 0) release = &releases[i];
    if (!release) return false;
    *shape = common_shape();
    if (release->pro) make_pro(shape);
    else make_flash(shape);
    shape->expert_type = release->expert_type;
    shape->drafter = release->drafter;
    shape->drafter_blocks = release->drafter == DRAFTER_DSPARK ? 3 : 1;
    shape->dspark_targets = release->drafter == DRAFTER_DSPARK ? 3 : 0;
    shape->dspark_rank = release->drafter == DRAFTER_DSPARK ? 256 : 0;

    /* 0, 1: sliding in Flash, HCA in Pro; then CSA and HCA by turns, CSA last. */
    for (uint32_t i = 0; i < shape->layers; i++) {
        uint32_t first = release->pro ? SHAPE_HCA_RATIO : 0;
        uint32_t later = i % 2 == 0 ? SHAPE_CSA_RATIO : SHAPE_HCA_RATIO;
        shape->layer[i].ratio = i < 2 ? first : later;
        shape->layer[i].hashed = i < shape->hash_layers;
    }
    return true;
}
