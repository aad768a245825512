/* shape.c - config.json as tables: one row a field, one row a relation between fields. */
#include "engine/shape.h"
#include <limits.h>
#include <math.h>
#include <unistd.h>
#include "config/json.h"

/* What a refusal needs to say where it is. */
struct config {
    const char *path;
    const struct json *root;
    struct err *err;
};

static const size_t most_config_bytes = 1u << 20;
static const double pi = 3.14159265358979323846;

/* ---- fields --------------------------------------------------------------------------------- */

static const struct whole_field {
    const char *name;
    size_t offset;  // of a uint32_t in struct shape
    uint32_t least, most;
    uint32_t multiple;  // of what
} whole_fields[] = {
#define WHOLE(json, field, least, most, multiple)                                                  \
    {                                                                                              \
        json, offsetof(struct shape, field), least, most, multiple                                 \
    }
    WHOLE("vocab_size", vocab, 2, 1 << 24, 1),
    WHOLE("hidden_size", hidden, 128, 1 << 17, SHAPE_FP8_BLOCK),
    WHOLE("num_hidden_layers", layers, 1, SHAPE_MOST_LAYERS / 2, 1),
    WHOLE("num_attention_heads", heads, 1, 1024, 1),
    WHOLE("head_dim", head_dim, 512, 512, 1),        // a KV entry is 448 + 64 channels:
    WHOLE("qk_rope_head_dim", rope_dim, 64, 64, 1),  // the layout of its bytes says so
    WHOLE("q_lora_rank", q_rank, 128, 1 << 16, SHAPE_FP8_BLOCK),
    WHOLE("o_groups", o_groups, 1, 1024, 1),
    WHOLE("o_lora_rank", o_rank, 128, 1 << 16, SHAPE_FP8_BLOCK),
    WHOLE("sliding_window", window, 128, 128, 1),  // the block of 128 tokens, everywhere
    WHOLE("index_n_heads", index_heads, 1, 1024, 1),
    WHOLE("index_head_dim", index_dim, 128, 128, 1),  // the Hadamard transform and FP4 groups
    WHOLE("index_topk", index_topk, 1, 1 << 16, 1),
    WHOLE("n_routed_experts", experts, 1, 1 << 16, 1),
    WHOLE("num_experts_per_tok", experts_per_token, 1, 64, 1),
    WHOLE("moe_intermediate_size", inter, 128, 1 << 17, SHAPE_FP8_BLOCK),
    WHOLE("num_hash_layers", hash_layers, 0, SHAPE_MOST_LAYERS, 1),
    WHOLE("hc_mult", streams, 1, SHAPE_MOST_STREAMS, 1),
    WHOLE("hc_sinkhorn_iters", sinkhorn_iters, 1, 1000, 1),
    WHOLE("max_position_embeddings", positions, 128, 1 << 30, 1),
    WHOLE("bos_token_id", bos, 0, 1 << 24, 1),
#undef WHOLE
};

static const struct real_field {
    const char *name;
    size_t offset;  // of a float in struct shape
    double least, most;
} real_fields[] = {
#define REAL(json, field, least, most)                                                             \
    {                                                                                              \
        json, offsetof(struct shape, field), least, most                                           \
    }
    REAL("routed_scaling_factor", routed_scaling, 1e-3, 1e3),
    REAL("swiglu_limit", swiglu_limit, 1e-3, 1e6),
    REAL("hc_eps", hc_eps, 0, 1),
    REAL("rms_norm_eps", norm_eps, 0, 1),
    REAL("rope_theta", rope_theta, 2, 1e12),
    REAL("compress_rope_theta", compress_rope_theta, 2, 1e12),
#undef REAL
};

/* Fields that the model has one value of; `required` ones may not be absent. */
static const struct fixed_field {
    const char *name, *value;  // as JSON writes it
    bool required;
} fixed_fields[] = {
    { "model_type", "\"deepseek_v4\"", true }, { "num_key_value_heads", "1", true },
    { "n_shared_experts", "1", true },         { "scoring_func", "\"sqrtsoftplus\"", true },
    { "topk_method", "\"noaux_tc\"", true },   { "norm_topk_prob", "true", true },
    { "hidden_act", "\"silu\"", true },        { "tie_word_embeddings", "false", false },
    { "attention_bias", "false", false },
};

static const struct fixed_field quantization_fields[] = {
    { "quant_method", "\"fp8\"", true },
    { "fmt", "\"e4m3\"", true },
    { "scale_fmt", "\"ue8m0\"", true },
};

/* The value as JSON writes it, cut to fit; for sentences and for comparing. */
static void print_value(const struct json *node, char text[64])
{
    if (!node) {
        snprintf(text, 64, "nothing");
        return;
    }
    switch (js_kind(node)) {
    case JS_NULL:
        snprintf(text, 64, "null");
        break;
    case JS_BOOL:
        snprintf(text, 64, js_bool(node) ? "true" : "false");
        break;
    case JS_INT:
        snprintf(text, 64, "%lld", (long long)js_int(node));
        break;
    case JS_REAL:
        snprintf(text, 64, "%.9g", js_real(node));
        break;
    case JS_STRING:
        snprintf(text, 64, "\"%.*s\"", js_string(node).size > 56 ? 56 : (int)js_string(node).size,
                 js_string(node).data);
        break;
    case JS_ARRAY:
    case JS_OBJECT:
        snprintf(text, 64, "%s", js_kind_name(js_kind(node)));
        break;
    }
}

static enum status wanted(const struct config *c, const char *name, const struct json *found,
                          const char *what)
{
    char text[64];
    print_value(found, text);
    return fail(c->err, BAD_INPUT, "%s: %s: found %s, wanted %s", c->path, name, text, what);
}

static enum status read_whole(const struct config *c, const struct json *object, const char *name,
                              uint32_t least, uint32_t most, uint32_t *out)
{
    const struct json *found = js_get(object, name);
    char what[64];

    if (found && js_kind(found) == JS_INT && js_int(found) >= least && js_int(found) <= most) {
        *out = (uint32_t)js_int(found);
        return OK;
    }
    if (least == most) snprintf(what, sizeof what, "%u", least);
    else snprintf(what, sizeof what, "a whole number from %u to %u", least, most);
    return wanted(c, name, found, what);
}

static enum status read_real(const struct config *c, const struct json *object, const char *name,
                             double least, double most, float *out)
{
    const struct json *found = js_get(object, name);
    enum js_kind kind = found ? js_kind(found) : JS_NULL;
    char what[64];

    if ((kind == JS_INT || kind == JS_REAL) && js_real(found) >= least && js_real(found) <= most) {
        *out = (float)js_real(found);
        return OK;
    }
    snprintf(what, sizeof what, "a number from %g to %g", least, most);
    return wanted(c, name, found, what);
}

static enum status check_fixed(const struct config *c, const struct json *object,
                               const struct fixed_field *field, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct json *found = js_get(object, field[i].name);
        char text[64];
        print_value(found, text);
        if (!found && !field[i].required) continue;
        if (strcmp(text, field[i].value) != 0)
            return wanted(c, field[i].name, found, field[i].value);
    }
    return OK;
}

static enum status read_fields(const struct config *c, struct shape *shape)
{
    char *base = (char *)shape;
    enum status status;

    for (size_t i = 0; i < sizeof whole_fields / sizeof *whole_fields; i++) {
        const struct whole_field *f = &whole_fields[i];
        uint32_t *value = (uint32_t *)(void *)(base + f->offset);
        status = read_whole(c, c->root, f->name, f->least, f->most, value);
        if (status != OK) return status;
        if (*value % f->multiple)
            return fail(c->err, BAD_INPUT, "%s: %s: found %u, wanted a multiple of %u", c->path,
                        f->name, *value, f->multiple);
    }
    for (size_t i = 0; i < sizeof real_fields / sizeof *real_fields; i++) {
        const struct real_field *f = &real_fields[i];
        float *value = (float *)(void *)(base + f->offset);
        status = read_real(c, c->root, f->name, f->least, f->most, value);
        if (status != OK) return status;
    }
    return OK;
}

/* ---- parts with a form of their own --------------------------------------------------------- */

/* The kind of model is told first: of another kind every further field would be a false trail. */
static enum status check_model_type(const struct config *c)
{
    const struct json *type = js_get(c->root, "model_type");

    if (type && js_kind(type) == JS_STRING && slice_equal(js_string(type), SLICE("deepseek_v41")))
        return fail(c->err, BAD_INPUT,
                    "%s: model_type: found \"deepseek_v41\" (DeepSeek-V4.1), another architecture "
                    "that this version does not serve yet, wanted \"deepseek_v4\"",
                    c->path);
    return check_fixed(c, c->root, fixed_fields, 1);
}

static enum status read_eos(const struct config *c, struct shape *shape)
{
    const struct json *eos = js_get(c->root, "eos_token_id");
    if (eos && js_kind(eos) == JS_ARRAY && js_count(eos) > 0) eos = js_at(eos, 0);
    if (!eos || js_kind(eos) != JS_INT || js_int(eos) < 0 || js_int(eos) >= shape->vocab)
        return wanted(c, "eos_token_id", eos, "the id of a token");
    shape->eos = (uint32_t)js_int(eos);
    return OK;
}

static enum status read_yarn(const struct config *c, struct shape *shape)
{
    const struct json *yarn = js_get(c->root, "rope_scaling");
    if (!yarn || js_kind(yarn) != JS_OBJECT) return wanted(c, "rope_scaling", yarn, "an object");

    const char *key = js_get(yarn, "type") ? "type" : "rope_type";
    const struct json *type = js_get(yarn, key);
    if (!type || js_kind(type) != JS_STRING || !slice_equal(js_string(type), SLICE("yarn")))
        return wanted(c, "rope_scaling.type", type, "\"yarn\"");
    enum status status = read_real(c, yarn, "factor", 1, 1e6, &shape->yarn_factor);
    if (status == OK) status = read_real(c, yarn, "beta_fast", 1e-3, 1e6, &shape->yarn_beta_fast);
    if (status == OK) status = read_real(c, yarn, "beta_slow", 1e-3, 1e6, &shape->yarn_beta_slow);
    if (status == OK)
        status = read_whole(c, yarn, "original_max_position_embeddings", 1, 1 << 30,
                            &shape->yarn_original);
    return status;
}

static enum status read_quantization(const struct config *c, struct shape *shape)
{
    const struct json *quant = js_get(c->root, "quantization_config");
    if (!quant || js_kind(quant) != JS_OBJECT)
        return wanted(c, "quantization_config", quant, "an object: FP8 weights with block scales");
    enum status status = check_fixed(c, quant, quantization_fields,
                                     sizeof quantization_fields / sizeof *quantization_fields);
    if (status != OK) return status;

    const struct json *block = js_get(quant, "weight_block_size");
    bool right = block && js_kind(block) == JS_ARRAY && js_count(block) == 2;
    for (size_t i = 0; right && i < 2; i++)
        right = js_kind(js_at(block, i)) == JS_INT && js_int(js_at(block, i)) == SHAPE_FP8_BLOCK;
    if (!right) return wanted(c, "quantization_config.weight_block_size", block, "[128, 128]");

    const struct json *expert = js_get(c->root, "expert_dtype");
    shape->expert_type = DT_I8;
    shape->expert_type_implied = !expert || js_kind(expert) == JS_NULL;
    if (shape->expert_type_implied) return OK;
    bool text = js_kind(expert) == JS_STRING;
    if (text && slice_equal(js_string(expert), SLICE("fp8"))) shape->expert_type = DT_F8_E4M3;
    else if (!text || !slice_equal(js_string(expert), SLICE("fp4")))
        return wanted(c, "expert_dtype", expert, "\"fp4\" or \"fp8\"");
    return OK;
}

/* DSpark's own fields; how many stages there are shows in compress_ratios. */
static enum status read_dspark(const struct config *c, struct shape *shape)
{
    const struct json *targets = js_get(c->root, "dspark_target_layer_ids");
    uint32_t block;

    shape->drafter = DRAFTER_DSPARK;
    enum status status = read_whole(c, c->root, "dspark_block_size", 1, 64, &block);
    if (status == OK)
        status = read_whole(c, c->root, "dspark_markov_rank", 1, 1 << 16, &shape->dspark_rank);
    if (status != OK) return status;
    if (!targets || js_kind(targets) != JS_ARRAY || js_count(targets) == 0 ||
        js_count(targets) > SHAPE_MOST_TARGETS)
        return wanted(c, "dspark_target_layer_ids", targets, "a list of 1 to 16 layers");
    for (size_t i = 0; i < js_count(targets); i++) {
        const struct json *layer = js_at(targets, i);
        if (js_kind(layer) != JS_INT || js_int(layer) < 0 || js_int(layer) >= shape->layers)
            return wanted(c, "dspark_target_layer_ids", layer, "numbers of layers");
    }
    shape->dspark_targets = (uint32_t)js_count(targets);
    return OK;
}

static enum status read_drafter(const struct config *c, struct shape *shape)
{
    const struct json *next = js_get(c->root, "num_nextn_predict_layers");

    if (js_get(c->root, "dspark_block_size")) return read_dspark(c, shape);
    if (next) {
        enum status status =
            read_whole(c, c->root, "num_nextn_predict_layers", 0, 1, &shape->drafter_blocks);
        if (status != OK) return status;
    }
    shape->drafter = shape->drafter_blocks ? DRAFTER_MTP : DRAFTER_NONE;
    return OK;
}

static enum status read_ratios(const struct config *c, struct shape *shape)
{
    const struct json *ratios = js_get(c->root, "compress_ratios");
    if (!ratios || js_kind(ratios) != JS_ARRAY)
        return wanted(c, "compress_ratios", ratios, "a list of 0, 4 and 128");

    size_t count = js_count(ratios);
    if (shape->drafter == DRAFTER_DSPARK && count > shape->layers &&
        count <= shape->layers + SHAPE_MOST_TARGETS)
        shape->drafter_blocks = (uint32_t)count - shape->layers;
    if (count != shape->layers + shape->drafter_blocks ||
        (shape->drafter == DRAFTER_DSPARK && shape->drafter_blocks == 0))
        return fail(
            c->err, BAD_INPUT,
            "%s: compress_ratios: found %zu entries, wanted %u: num_hidden_layers and %s", c->path,
            count, shape->layers + (shape->drafter == DRAFTER_DSPARK ? 3 : shape->drafter_blocks),
            shape->drafter == DRAFTER_DSPARK ? "the DSpark stages" : "num_nextn_predict_layers");
    for (uint32_t i = 0; i < count; i++) {
        const struct json *ratio = js_at(ratios, i);
        int64_t value = js_kind(ratio) == JS_INT ? js_int(ratio) : -1;
        bool backbone = i < shape->layers;
        if (value != 0 && !(backbone && (value == SHAPE_CSA_RATIO || value == SHAPE_HCA_RATIO))) {
            char name[64];
            snprintf(name, sizeof name, "compress_ratios[%u]", i);
            return wanted(c, name, ratio,
                          backbone ? "0, 4 or 128" : "0, as in every drafter block");
        }
        shape->layer[i].ratio = (uint32_t)value;
        shape->layer[i].hashed = i < shape->hash_layers;
    }
    return OK;
}

/* ---- fields against each other -------------------------------------------------------------- */

static enum status check_relations(const struct config *c, const struct shape *s)
{
    const struct relation {
        const char *name;
        uint32_t found;
        bool holds;
        const char *what;
        uint32_t other;
    } relations[] = {
        { "num_attention_heads", s->heads, s->heads % s->o_groups == 0, "a multiple of o_groups",
          s->o_groups },
        { "num_experts_per_tok", s->experts_per_token, s->experts_per_token <= s->experts,
          "at most n_routed_experts", s->experts },
        { "num_hash_layers", s->hash_layers, s->hash_layers <= s->layers,
          "at most num_hidden_layers", s->layers },
        { "bos_token_id", s->bos, s->bos < s->vocab, "less than vocab_size", s->vocab },
        { "original_max_position_embeddings", s->yarn_original, s->yarn_original <= s->positions,
          "at most max_position_embeddings", s->positions },
    };

    for (size_t i = 0; i < sizeof relations / sizeof *relations; i++)
        if (!relations[i].holds)
            return fail(c->err, BAD_INPUT, "%s: %s: found %u, wanted %s, %u", c->path,
                        relations[i].name, relations[i].found, relations[i].what,
                        relations[i].other);
    return OK;
}

static enum status read_config(const struct config *c, struct shape *shape)
{
    enum status status = check_model_type(c);

    if (status == OK)
        status = check_fixed(c, c->root, fixed_fields, sizeof fixed_fields / sizeof *fixed_fields);
    if (status == OK) status = read_fields(c, shape);
    if (status == OK) status = read_eos(c, shape);
    if (status == OK) status = read_yarn(c, shape);
    if (status == OK) status = read_quantization(c, shape);
    if (status == OK) status = check_relations(c, shape);
    if (status == OK) status = read_drafter(c, shape);
    if (status == OK) status = read_ratios(c, shape);
    shape->vision = js_get(c->root, "vision_config") != NULL;
    return status;
}

enum status shape_read(const char *dir, struct shape *shape, struct err *err)
{
    char path[PATH_MAX];
    struct json *root;

    *shape = (struct shape){ 0 };
    snprintf(path, sizeof path, "%s/config.json", dir);
    enum status status = js_read_file(path, most_config_bytes, &root, err);
    if (status != OK) return status;
    struct config c = { path, root, err };
    if (js_kind(root) != JS_OBJECT)
        status = fail(err, BAD_INPUT, "%s: found %s, wanted an object", path,
                      js_kind_name(js_kind(root)));
    else status = read_config(&c, shape);
    js_free(root);
    return status;
}

/* ---- generation_config.json ----------------------------------------------------------------- */

static enum status read_generation(const struct config *c, struct generation *g)
{
    const struct json *sampled = js_get(c->root, "do_sample");
    enum status status = OK;

    if (sampled && js_kind(sampled) != JS_BOOL)
        return wanted(c, "do_sample", sampled, "true or false");
    if (js_get(c->root, "temperature"))
        status = read_real(c, c->root, "temperature", 0, 2, &g->temperature);
    if (status == OK && js_get(c->root, "top_p"))
        status = read_real(c, c->root, "top_p", 1e-6, 1, &g->top_p);
    if (status == OK && js_get(c->root, "min_p"))
        status = read_real(c, c->root, "min_p", 0, 0.999999, &g->min_p);
    if (status == OK && js_get(c->root, "top_k"))
        status = read_whole(c, c->root, "top_k", 0, 1 << 24, &g->top_k);
    if (sampled && !js_bool(sampled)) g->temperature = 0;
    return status;
}

enum status generation_read(const char *dir, struct generation *generation, struct err *err)
{
    char path[PATH_MAX];
    struct json *root;

    *generation = (struct generation){ .temperature = 1, .top_p = 1 };
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    if (access(path, F_OK) != 0) return OK;
    enum status status = js_read_file(path, most_config_bytes, &root, err);
    if (status != OK) return status;
    struct config c = { path, root, err };
    if (js_kind(root) != JS_OBJECT)
        status = fail(err, BAD_INPUT, "%s: found %s, wanted an object", path,
                      js_kind_name(js_kind(root)));
    else status = read_generation(&c, generation);
    js_free(root);
    return status;
}

/* ---- rope ----------------------------------------------------------------------------------- */

/* The pair that turns `rotations` times within the original positions. */
static double yarn_pair(const struct shape *s, double rotations)
{
    return s->rope_dim * log(s->yarn_original / (rotations * 2 * pi)) /
           (2 * log((double)s->compress_rope_theta));
}

void shape_rope_frequencies(const struct shape *shape, uint32_t ratio, float *frequency)
{
    uint32_t pairs = shape->rope_dim / 2;
    double base = ratio ? shape->compress_rope_theta : shape->rope_theta;
    double low = fmax(floor(yarn_pair(shape, shape->yarn_beta_fast)), 0);
    double high = fmin(ceil(yarn_pair(shape, shape->yarn_beta_slow)), shape->rope_dim - 1);
    if (low == high) high += 0.001;

    for (uint32_t i = 0; i < pairs; i++) {
        frequency[i] = 1.0f / (float)pow(base, 2.0 * i / shape->rope_dim);
        if (ratio == 0) continue;
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float kept = 1 - fminf(fmaxf(ramp, 0), 1);  // share of the frequency as trained
        frequency[i] = frequency[i] / shape->yarn_factor * (1 - kept) + frequency[i] * kept;
    }
}
