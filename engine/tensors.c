/* tensors.c - the rows of model.md 2.2, unrolled over layers and experts. */
#include "engine/tensors.h"

/* Sizes that rows name; dim_value gives each its number. */
enum dim {
    D_NONE,  // a vector: the one dimension is the columns
    D_ONE,
    D_THREE,
    D_HIDDEN,
    D_VOCAB,
    D_STREAMS,
    D_STREAMS_HIDDEN,
    D_MIX,  // hyper-connection coefficients: pre, post, comb
    D_HEADS,
    D_HEAD_DIM,
    D_QUERY,  // heads * head_dim
    D_Q_RANK,
    D_GROUP_RANKS,  // o_groups * o_rank
    D_GROUP_HEADS,  // channels of one group's heads
    D_RATIO,
    D_COMPRESS,        // width of the compressor's products
    D_INDEX_COMPRESS,  // of the indexer's compressor
    D_INDEX_QUERY,
    D_INDEX_HEADS,
    D_INDEX_DIM,
    D_EXPERTS,
    D_TOPK,
    D_INTER,
    D_TARGETS_HIDDEN,  // DSpark
    D_RANK,
    D_HIDDEN_RANK,
};

enum form { FORM_BF16, FORM_F32, FORM_I64, FORM_FP8, FORM_EXPERT };

enum when { ALWAYS, COMPRESSED, INDEXED, SCORED, HASHED, FIRST, LAST };

struct row {
    const char *name;
    enum form form;
    enum dim rows, cols;
    enum weight_use use;
    enum tensor_part part;
    enum tensor_fill fill;
    float gain;
    size_t slot;
    enum when when;
};

#define LAYER(field) offsetof(struct layer_weights, field)
#define TOP(field) offsetof(struct weights, field)
#define MTP(field) offsetof(struct mtp_weights, field)
#define UNUSED 0

// clang-format off
static const struct row top_rows[] = {
    { "embed.weight", FORM_BF16, D_VOCAB, D_HIDDEN, WEIGHT_TABLE, PART_EMBED, FILL_SPREAD, 1, TOP(embed), ALWAYS },
    { "hc_head_fn", FORM_F32, D_STREAMS, D_STREAMS_HIDDEN, WEIGHT_VECTOR, PART_NORM, FILL_SCALED, 1, TOP(hc_head.fn), ALWAYS },
    { "hc_head_base", FORM_F32, D_NONE, D_STREAMS, WEIGHT_VECTOR, PART_NORM, FILL_SPREAD, .5f, TOP(hc_head.base), ALWAYS },
    { "hc_head_scale", FORM_F32, D_NONE, D_ONE, WEIGHT_VECTOR, PART_NORM, FILL_MIX, 1, TOP(hc_head.scale), ALWAYS },
    { "norm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_NORM, FILL_NORM, 1, TOP(norm), ALWAYS },
    { "head.weight", FORM_BF16, D_VOCAB, D_HIDDEN, WEIGHT_LINEAR, PART_HEAD, FILL_SCALED, 1, TOP(head), ALWAYS },
};

static const struct row layer_rows[] = {
    { "hc_attn_fn", FORM_F32, D_MIX, D_STREAMS_HIDDEN, WEIGHT_VECTOR, PART_HYPER, FILL_SCALED, 1, LAYER(hc_attn.fn), ALWAYS },
    { "hc_attn_base", FORM_F32, D_NONE, D_MIX, WEIGHT_VECTOR, PART_HYPER, FILL_SPREAD, .5f, LAYER(hc_attn.base), ALWAYS },
    { "hc_attn_scale", FORM_F32, D_NONE, D_THREE, WEIGHT_VECTOR, PART_HYPER, FILL_MIX, 1, LAYER(hc_attn.scale), ALWAYS },
    { "attn_norm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_NORM, FILL_NORM, 1, LAYER(attn_norm), ALWAYS },
    { "attn.attn_sink", FORM_F32, D_NONE, D_HEADS, WEIGHT_VECTOR, PART_ATTENTION, FILL_SPREAD, 1, LAYER(attn_sink), ALWAYS },
    { "attn.wq_a", FORM_FP8, D_Q_RANK, D_HIDDEN, WEIGHT_LINEAR, PART_ATTENTION, FILL_SCALED, 1, LAYER(wq_a), ALWAYS },
    { "attn.q_norm.weight", FORM_BF16, D_NONE, D_Q_RANK, WEIGHT_VECTOR, PART_ATTENTION, FILL_NORM, 1, LAYER(q_norm), ALWAYS },
    { "attn.wq_b", FORM_FP8, D_QUERY, D_Q_RANK, WEIGHT_LINEAR, PART_ATTENTION, FILL_SCALED, 1, LAYER(wq_b), ALWAYS },
    { "attn.wkv", FORM_FP8, D_HEAD_DIM, D_HIDDEN, WEIGHT_LINEAR, PART_ATTENTION, FILL_SCALED, 1, LAYER(wkv), ALWAYS },
    { "attn.kv_norm.weight", FORM_BF16, D_NONE, D_HEAD_DIM, WEIGHT_VECTOR, PART_ATTENTION, FILL_NORM, 1, LAYER(kv_norm), ALWAYS },
    { "attn.wo_a", FORM_FP8, D_GROUP_RANKS, D_GROUP_HEADS, WEIGHT_LINEAR, PART_ATTENTION, FILL_SCALED, 1, LAYER(wo_a), ALWAYS },
    { "attn.wo_b", FORM_FP8, D_HIDDEN, D_GROUP_RANKS, WEIGHT_LINEAR, PART_ATTENTION, FILL_SCALED, 1, LAYER(wo_b), ALWAYS },
    { "attn.compressor.ape", FORM_F32, D_RATIO, D_COMPRESS, WEIGHT_VECTOR, PART_COMPRESSOR, FILL_SPREAD, .5f, LAYER(compressor.ape), COMPRESSED },
    { "attn.compressor.wkv.weight", FORM_BF16, D_COMPRESS, D_HIDDEN, WEIGHT_LINEAR, PART_COMPRESSOR, FILL_SCALED, 1, LAYER(compressor.wkv), COMPRESSED },
    { "attn.compressor.wgate.weight", FORM_BF16, D_COMPRESS, D_HIDDEN, WEIGHT_LINEAR, PART_COMPRESSOR, FILL_SCALED, 1, LAYER(compressor.wgate), COMPRESSED },
    { "attn.compressor.norm.weight", FORM_BF16, D_NONE, D_HEAD_DIM, WEIGHT_VECTOR, PART_COMPRESSOR, FILL_NORM, 1, LAYER(compressor.norm), COMPRESSED },
    { "attn.indexer.wq_b", FORM_FP8, D_INDEX_QUERY, D_Q_RANK, WEIGHT_LINEAR, PART_INDEXER, FILL_SCALED, 1, LAYER(indexer.wq_b), INDEXED },
    { "attn.indexer.weights_proj.weight", FORM_BF16, D_INDEX_HEADS, D_HIDDEN, WEIGHT_LINEAR, PART_INDEXER, FILL_SCALED, 1, LAYER(indexer.weights_proj), INDEXED },
    { "attn.indexer.compressor.ape", FORM_F32, D_RATIO, D_INDEX_COMPRESS, WEIGHT_VECTOR, PART_INDEXER, FILL_SPREAD, .5f, LAYER(indexer.compressor.ape), INDEXED },
    { "attn.indexer.compressor.wkv.weight", FORM_BF16, D_INDEX_COMPRESS, D_HIDDEN, WEIGHT_LINEAR, PART_INDEXER, FILL_SCALED, 1, LAYER(indexer.compressor.wkv), INDEXED },
    { "attn.indexer.compressor.wgate.weight", FORM_BF16, D_INDEX_COMPRESS, D_HIDDEN, WEIGHT_LINEAR, PART_INDEXER, FILL_SCALED, 1, LAYER(indexer.compressor.wgate), INDEXED },
    { "attn.indexer.compressor.norm.weight", FORM_BF16, D_NONE, D_INDEX_DIM, WEIGHT_VECTOR, PART_INDEXER, FILL_NORM, 1, LAYER(indexer.compressor.norm), INDEXED },
    { "hc_ffn_fn", FORM_F32, D_MIX, D_STREAMS_HIDDEN, WEIGHT_VECTOR, PART_HYPER, FILL_SCALED, 1, LAYER(hc_ffn.fn), ALWAYS },
    { "hc_ffn_base", FORM_F32, D_NONE, D_MIX, WEIGHT_VECTOR, PART_HYPER, FILL_SPREAD, .5f, LAYER(hc_ffn.base), ALWAYS },
    { "hc_ffn_scale", FORM_F32, D_NONE, D_THREE, WEIGHT_VECTOR, PART_HYPER, FILL_MIX, 1, LAYER(hc_ffn.scale), ALWAYS },
    { "ffn_norm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_NORM, FILL_NORM, 1, LAYER(ffn_norm), ALWAYS },
    { "ffn.gate.weight", FORM_BF16, D_EXPERTS, D_HIDDEN, WEIGHT_LINEAR, PART_ROUTER, FILL_SCALED, 2, LAYER(gate), ALWAYS },
    { "ffn.gate.bias", FORM_F32, D_NONE, D_EXPERTS, WEIGHT_VECTOR, PART_ROUTER, FILL_SPREAD, .3f, LAYER(bias), SCORED },
    { "ffn.gate.tid2eid", FORM_I64, D_VOCAB, D_TOPK, WEIGHT_TABLE, PART_TID2EID, FILL_EXPERTS, 1, LAYER(tid2eid), HASHED },
};

/* Once for each routed expert, and as FP8 for the shared one. */
static const struct row expert_rows[] = {
    { "w1", FORM_EXPERT, D_INTER, D_HIDDEN, WEIGHT_LINEAR, PART_EXPERTS, FILL_SCALED, 3, LAYER(w1), ALWAYS },
    { "w2", FORM_EXPERT, D_HIDDEN, D_INTER, WEIGHT_LINEAR, PART_EXPERTS, FILL_SCALED, .3f, LAYER(w2), ALWAYS },
    { "w3", FORM_EXPERT, D_INTER, D_HIDDEN, WEIGHT_LINEAR, PART_EXPERTS, FILL_SCALED, 3, LAYER(w3), ALWAYS },
};

static const struct row mtp_rows[] = {
    { "e_proj", FORM_FP8, D_HIDDEN, D_HIDDEN, WEIGHT_LINEAR, PART_DRAFTER, FILL_SCALED, 1, MTP(e_proj), ALWAYS },
    { "h_proj", FORM_FP8, D_HIDDEN, D_HIDDEN, WEIGHT_LINEAR, PART_DRAFTER, FILL_SCALED, 1, MTP(h_proj), ALWAYS },
    { "enorm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_NORM, 1, MTP(enorm), ALWAYS },
    { "hnorm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_NORM, 1, MTP(hnorm), ALWAYS },
    { "norm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_NORM, 1, MTP(norm), ALWAYS },
    { "hc_head_fn", FORM_F32, D_STREAMS, D_STREAMS_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_SCALED, 1, MTP(hc_head.fn), ALWAYS },
    { "hc_head_base", FORM_F32, D_NONE, D_STREAMS, WEIGHT_VECTOR, PART_DRAFTER, FILL_SPREAD, .5f, MTP(hc_head.base), ALWAYS },
    { "hc_head_scale", FORM_F32, D_NONE, D_ONE, WEIGHT_VECTOR, PART_DRAFTER, FILL_MIX, 1, MTP(hc_head.scale), ALWAYS },
};

static const struct row dspark_rows[] = {
    { "main_proj", FORM_FP8, D_HIDDEN, D_TARGETS_HIDDEN, WEIGHT_LINEAR, PART_DRAFTER, FILL_SCALED, 1, UNUSED, FIRST },
    { "main_norm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_NORM, 1, UNUSED, FIRST },
    { "norm.weight", FORM_BF16, D_NONE, D_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_NORM, 1, UNUSED, LAST },
    { "hc_head_fn", FORM_F32, D_STREAMS, D_STREAMS_HIDDEN, WEIGHT_VECTOR, PART_DRAFTER, FILL_SCALED, 1, UNUSED, LAST },
    { "hc_head_base", FORM_F32, D_NONE, D_STREAMS, WEIGHT_VECTOR, PART_DRAFTER, FILL_SPREAD, .5f, UNUSED, LAST },
    { "hc_head_scale", FORM_F32, D_NONE, D_ONE, WEIGHT_VECTOR, PART_DRAFTER, FILL_MIX, 1, UNUSED, LAST },
    { "markov_head.markov_w1.weight", FORM_BF16, D_VOCAB, D_RANK, WEIGHT_TABLE, PART_DRAFTER, FILL_SCALED, 1, UNUSED, LAST },
    { "markov_head.markov_w2.weight", FORM_BF16, D_VOCAB, D_RANK, WEIGHT_LINEAR, PART_DRAFTER, FILL_SCALED, 1, UNUSED, LAST },
    { "confidence_head.proj.weight", FORM_BF16, D_ONE, D_HIDDEN_RANK, WEIGHT_LINEAR, PART_DRAFTER, FILL_SCALED, 1, UNUSED, LAST },
};
// clang-format on

#define ROWS(table) table, sizeof table / sizeof *table

/* Names that exports by third parties repeat in the drafter block. */
static const char *const skipped_names[] = { "mtp.0.emb.tok_emb.weight", "mtp.0.head.weight" };

/* ---- making the list ------------------------------------------------------------------------ */

struct maker {
    struct tensor_list *list;
    const struct shape *shape;
    uint32_t room;
    bool full;  // no memory

    struct tensor_need base;  // owner, block, expert of what follows
    char prefix[64];          // "layers.12."
    const struct layer_shape *layer;
};

static uint32_t dim_value(const struct maker *m, enum dim dim)
{
    const struct shape *s = m->shape;
    uint32_t ratio = m->layer ? m->layer->ratio : 0;

    switch (dim) {
    case D_NONE:
    case D_ONE:
        return 1;
    case D_THREE:
        return 3;
    case D_HIDDEN:
        return s->hidden;
    case D_VOCAB:
        return s->vocab;
    case D_STREAMS:
        return s->streams;
    case D_STREAMS_HIDDEN:
        return s->streams * s->hidden;
    case D_MIX:
        return 2 * s->streams + s->streams * s->streams;
    case D_HEADS:
        return s->heads;
    case D_HEAD_DIM:
        return s->head_dim;
    case D_QUERY:
        return s->heads * s->head_dim;
    case D_Q_RANK:
        return s->q_rank;
    case D_GROUP_RANKS:
        return s->o_groups * s->o_rank;
    case D_GROUP_HEADS:
        return s->heads / s->o_groups * s->head_dim;
    case D_RATIO:
        return ratio;
    case D_COMPRESS:
        return shape_compress_width(ratio, s->head_dim);
    case D_INDEX_COMPRESS:
        return shape_compress_width(ratio, s->index_dim);
    case D_INDEX_QUERY:
        return s->index_heads * s->index_dim;
    case D_INDEX_HEADS:
        return s->index_heads;
    case D_INDEX_DIM:
        return s->index_dim;
    case D_EXPERTS:
        return s->experts;
    case D_TOPK:
        return s->experts_per_token;
    case D_INTER:
        return s->inter;
    case D_TARGETS_HIDDEN:
        return s->dspark_targets * s->hidden;
    case D_RANK:
        return s->dspark_rank;
    case D_HIDDEN_RANK:
        return s->hidden + s->dspark_rank;
    }
    must(!"a dimension without a value");
    return 0;
}

static const char *join_name(struct maker *m, const char *name, const char *suffix)
{
    size_t prefix = strlen(m->prefix), body = strlen(name), end = strlen(suffix);
    char *joined = arena_take(&m->list->arena, prefix + body + end + 1);

    if (!joined) return NULL;
    memcpy(joined, m->prefix, prefix);
    memcpy(joined + prefix, name, body);
    memcpy(joined + prefix + body, suffix, end);
    return joined;
}

static void add(struct maker *m, struct tensor_need need)
{
    struct tensor_list *list = m->list;

    if (list->count == m->room) {
        m->room = m->room ? m->room * 2 : 1024;
        struct tensor_need *more = realloc(list->need, m->room * sizeof *more);
        if (!more) {
            m->full = true;
            return;
        }
        list->need = more;
    }
    list->bytes += tensor_bytes(&need);
    list->need[list->count++] = need;
}

/* The row's tensor, and for the quantised forms its scale after it. */
static void add_row(struct maker *m, const struct row *row)
{
    bool fp4 = row->form == FORM_EXPERT && m->shape->expert_type == DT_I8;
    bool scaled = row->form == FORM_EXPERT || row->form == FORM_FP8;
    static const enum dtype plain[] = { DT_BF16, DT_F32, DT_I64, DT_F8_E4M3 };
    struct tensor_need need = m->base;

    need.name = join_name(m, row->name, scaled ? ".weight" : "");
    need.type = row->form == FORM_EXPERT ? m->shape->expert_type : plain[row->form];
    need.rows = dim_value(m, row->rows);
    need.cols = dim_value(m, row->cols);
    need.dims = row->rows == D_NONE ? 1 : 2;
    need.shape[0] = need.dims == 1 ? need.cols : need.rows;
    need.shape[1] = need.dims == 1 ? 1 : fp4 ? need.cols / 2 : need.cols;
    need.use = row->use;
    need.part = row->part;
    need.fill = row->fill;
    need.gain = row->gain;
    need.slot = row->slot;
    need.scale = scaled ? m->list->count + 1 : TENSOR_NONE;
    need.scale_rows = !scaled ? 0 : fp4 ? 1 : SHAPE_FP8_BLOCK;
    need.scale_cols = !scaled ? 0 : fp4 ? SHAPE_FP4_GROUP : SHAPE_FP8_BLOCK;
    if (!need.name || m->full) {
        m->full = true;
        return;
    }
    add(m, need);
    if (!scaled || m->full) return;

    struct tensor_need scale = need;
    scale.name = join_name(m, row->name, ".scale");
    scale.type = DT_F8_E8M0;
    scale.is_scale = true;
    scale.scale = TENSOR_NONE;
    scale.rows = scale.shape[0] = need.rows / need.scale_rows;
    scale.cols = scale.shape[1] = need.cols / need.scale_cols;
    if (scale.name) add(m, scale);
    else m->full = true;
}

static void add_rows(struct maker *m, const struct row *rows, size_t count)
{
    static const struct layer_shape none = { 0, false };
    const struct layer_shape *layer = m->layer ? m->layer : &none;
    bool last = m->base.block + 1 == m->shape->drafter_blocks;

    for (size_t i = 0; i < count; i++) {
        bool due = true;
        switch (rows[i].when) {
        case ALWAYS:
            break;
        case COMPRESSED:
            due = layer->ratio > 0;
            break;
        case INDEXED:
            due = layer->ratio == SHAPE_CSA_RATIO;
            break;
        case SCORED:
            due = !layer->hashed;
            break;
        case HASHED:
            due = layer->hashed;
            break;
        case FIRST:
            due = m->base.block == 0;
            break;
        case LAST:
            due = last;
            break;
        }
        if (due) add_row(m, &rows[i]);
    }
}

/* All of one layer: `prefix` ends in a point. */
static void add_layer(struct maker *m, const char *prefix, const struct layer_shape *layer)
{
    m->layer = layer;
    snprintf(m->prefix, sizeof m->prefix, "%s", prefix);
    add_rows(m, ROWS(layer_rows));

    for (uint32_t expert = 0; expert <= m->shape->experts; expert++) {
        bool shared = expert == m->shape->experts;
        if (shared) snprintf(m->prefix, sizeof m->prefix, "%sffn.shared_experts.", prefix);
        else snprintf(m->prefix, sizeof m->prefix, "%sffn.experts.%u.", prefix, expert);
        m->base.expert = expert;
        for (size_t i = 0; i < sizeof expert_rows / sizeof *expert_rows; i++) {
            struct row row = expert_rows[i];
            if (shared) {
                row.form = FORM_FP8;
                row.part = PART_SHARED;
            }
            add_row(m, &row);
        }
    }
    m->base.expert = TENSOR_NONE;
    snprintf(m->prefix, sizeof m->prefix, "%s", prefix);
}

enum status tensor_list_init(struct tensor_list *list, const struct shape *shape, struct err *err)
{
    struct maker m = { .list = list, .shape = shape };
    char prefix[32];

    *list = (struct tensor_list){ 0 };
    arena_init(&list->arena, 0);
    m.base = (struct tensor_need){ .loaded = true, .owner = OWNER_TOP, .expert = TENSOR_NONE };
    add_rows(&m, ROWS(top_rows));
    m.base.owner = OWNER_LAYER;
    for (uint32_t i = 0; i < shape->layers && !m.full; i++) {
        m.base.block = i;
        snprintf(prefix, sizeof prefix, "layers.%u.", i);
        add_layer(&m, prefix, &shape->layer[i]);
    }
    m.base.owner = OWNER_DRAFTER;
    m.base.loaded = shape->drafter == DRAFTER_MTP;
    for (uint32_t i = 0; i < shape->drafter_blocks && !m.full; i++) {
        m.base.block = i;
        snprintf(prefix, sizeof prefix, "mtp.%u.", i);
        add_layer(&m, prefix, &shape->layer[shape->layers + i]);
        if (shape->drafter == DRAFTER_MTP) add_rows(&m, ROWS(mtp_rows));
        else add_rows(&m, ROWS(dspark_rows));
    }
    if (!m.full) return OK;
    tensor_list_release(list);
    return fail(err, NO_MEMORY, "no memory for the list of the model's tensors");
}

void tensor_list_release(struct tensor_list *list)
{
    free(list->need);
    arena_release(&list->arena);
    *list = (struct tensor_list){ 0 };
}

uint64_t tensor_bytes(const struct tensor_need *need)
{
    return (uint64_t)need->shape[0] * need->shape[1] * dtype_size(need->type);
}

/* ---- holding it against the files ----------------------------------------------------------- */

void tensors_settle(struct shape *shape, const struct st_set *set)
{
    const struct st_tensor *first = st_find(set, SLICE("layers.0.ffn.experts.0.w1.weight"));

    if (shape->expert_type_implied && first && first->type == DT_F8_E4M3)
        shape->expert_type = DT_F8_E4M3;
}

static bool matches(const struct tensor_need *need, const struct st_tensor *tensor)
{
    if (tensor->type != need->type || tensor->dims != need->dims) return false;
    for (uint32_t i = 0; i < need->dims; i++)
        if (tensor->shape[i] != need->shape[i]) return false;
    return true;
}

static void describe_need(const struct tensor_need *need, char text[160])
{
    uint64_t shape[2] = { need->shape[0], need->shape[1] };
    st_describe(text, slice_of(dtype_name(need->type)), shape, need->dims);
}

/* The set has no such tensor. A checkpoint of another naming is told apart from one with a gap. */
static enum status refuse_missing(const struct tensor_need *need, const struct st_set *set,
                                  struct err *err)
{
    char wanted[160], hint[ST_MOST_NAME + 80] = "";

    describe_need(need, wanted);
    for (uint32_t i = 0; i < set->tensors && !hint[0]; i++)
        if (slice_starts(set->tensor[i].name, SLICE("model.")))
            snprintf(hint, sizeof hint, "; it has %.*s, so its names are another format's",
                     (int)set->tensor[i].name.size, set->tensor[i].name.data);
    int dir = set->files ? (int)(set->file[0].name - set->file[0].path) : 0;
    return fail(err, BAD_INPUT, "%.*s: tensor %s is missing, wanted %s%s", dir > 1 ? dir - 1 : 1,
                dir > 1 ? set->file[0].path : ".", need->name, wanted, hint);
}

static enum status refuse_other(const struct tensor_need *need, const struct st_tensor *tensor,
                                const struct st_set *set, struct err *err)
{
    char found[160], wanted[160];

    st_describe(found, tensor->type_name, tensor->shape, tensor->dims);
    describe_need(need, wanted);
    return fail(err, BAD_INPUT, "%s: tensor %s: found %s, wanted %s as config.json says",
                st_path(set, tensor), need->name, found, wanted);
}

/* A name of the model's own that the shape does not have contradicts it; any other is none of our
 * business, and so are the drafter's when config.json names no drafter. */
static bool contradicts(struct slice name, const struct shape *shape)
{
    if (slice_starts(name, SLICE("layers."))) return true;
    if (!slice_starts(name, SLICE("mtp."))) return false;
    for (size_t i = 0; i < sizeof skipped_names / sizeof *skipped_names; i++)
        if (slice_equal(name, slice_of(skipped_names[i]))) return false;
    return shape->drafter != DRAFTER_NONE;
}

static enum status check_extras(const struct shape *shape, const struct st_set *set,
                                const bool *needed, char note[512], struct err *err)
{
    uint32_t extras = 0;
    const struct st_tensor *first = NULL;

    for (uint32_t i = 0; i < set->tensors; i++) {
        const struct st_tensor *tensor = &set->tensor[i];
        if (needed[i]) continue;
        if (contradicts(tensor->name, shape))
            return fail(err, BAD_INPUT,
                        "%s: tensor %.*s: found, but config.json describes a model without it "
                        "(%u layers, %u experts, %u drafter blocks)",
                        st_path(set, tensor), (int)tensor->name.size, tensor->name.data,
                        shape->layers, shape->experts, shape->drafter_blocks);
        if (extras++ == 0) first = tensor;
    }
    int at = 0;
    if (shape->drafter == DRAFTER_DSPARK)
        at = snprintf(note, 512, "the DSpark drafter's tensors are complete and not used");
    if (extras)
        snprintf(note + at, 512 - (size_t)at,
                 "%s%u tensors are not part of the text model and "
                 "left alone, the first is %.*s",
                 at ? "; " : "", extras, (int)first->name.size, first->name.data);
    return OK;
}

enum status tensors_check(const struct tensor_list *list, const struct shape *shape,
                          const struct st_set *set, const struct st_tensor **found, char note[512],
                          struct err *err)
{
    bool *needed = calloc(set->tensors + 1, sizeof *needed);
    enum status status = OK;

    note[0] = 0;
    if (!needed) return fail(err, NO_MEMORY, "no memory to check %u tensors", set->tensors);
    for (uint32_t i = 0; i < list->count && status == OK; i++) {
        const struct tensor_need *need = &list->need[i];
        found[i] = st_find(set, slice_of(need->name));
        if (!found[i]) status = refuse_missing(need, set, err);
        else if (!matches(need, found[i])) status = refuse_other(need, found[i], set, err);
        else needed[found[i] - set->tensor] = true;
    }
    if (status == OK) status = check_extras(shape, set, needed, note, err);
    free(needed);
    return status;
}
