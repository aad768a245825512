/* model.c - the layers as lists of operations; the formulas stand at the operations themselves. */
#include "engine/model.h"
#include "cache/kv_pool.h"

struct device_piece {
    void *data;
    size_t bytes;
};

enum { PIECES_MOST = 40 };

/* ---- memory -------------------------------------------------------------------------------- */

static void *take(struct model *model, size_t bytes)
{
    must(model->pieces < PIECES_MOST);
    void *data = model->dev->ops->alloc(model->dev, bytes);
    if (data) model->piece[model->pieces++] = (struct device_piece){ data, bytes };
    if (data) model->activation_bytes += bytes;
    return data;
}

static bool take_mat(struct model *model, struct mat *mat, enum dtype type, uint32_t rows,
                     uint32_t cols)
{
    *mat = mat_of(take(model, (size_t)rows * cols * dtype_size(type)), type, rows, cols);
    return mat->data != NULL;
}

static bool take_activations(struct model *m)
{
    const struct shape *s = m->shape;
    enum dtype act = m->dev->activation;
    uint32_t t = m->most_tokens, r = m->most_rows, n = s->streams, d = s->hidden;
    size_t ids = sizeof(uint32_t) * t;

    return take_mat(m, &m->streams, act, t, n * d) &&
           take_mat(m, &m->draft_streams, act, t, n * d) && take_mat(m, &m->x, act, t, d) &&
           take_mat(m, &m->y, act, t, d) && take_mat(m, &m->post, DT_F32, t, n) &&
           take_mat(m, &m->comb, DT_F32, t, n * n) && take_mat(m, &m->qr_raw, act, t, s->q_rank) &&
           take_mat(m, &m->qr, act, t, s->q_rank) &&
           take_mat(m, &m->q, act, t, s->heads * s->head_dim) &&
           take_mat(m, &m->o, act, t, s->heads * s->head_dim) &&
           take_mat(m, &m->kv, act, t, s->head_dim) &&
           take_mat(m, &m->value, DT_F32, t, 2 * s->head_dim) &&
           take_mat(m, &m->gate, DT_F32, t, 2 * s->head_dim) &&
           take_mat(m, &m->key_value, DT_F32, t, 2 * s->index_dim) &&
           take_mat(m, &m->key_gate, DT_F32, t, 2 * s->index_dim) &&
           take_mat(m, &m->iq, act, t, s->index_heads * s->index_dim) &&
           take_mat(m, &m->iw, act, t, s->index_heads) &&
           take_mat(m, &m->z, act, t, s->o_groups * s->o_rank) &&
           take_mat(m, &m->row_streams, act, r, n * d) && take_mat(m, &m->row, act, r, d) &&
           take_mat(m, &m->logits, DT_F32, r, s->vocab) &&
           (m->selected = take(m, ids * s->index_topk)) && (m->selected_count = take(m, ids)) &&
           (m->expert = take(m, ids * s->experts_per_token)) &&
           (m->expert_weight = take(m, ids * s->experts_per_token));
}

static bool take_rope(struct model *model, struct rope *rope, uint32_t ratio)
{
    uint32_t dim = model->shape->rope_dim;
    float frequency[dim / 2];
    float *data = take(model, sizeof frequency);
    if (!data) return false;
    shape_rope_frequencies(model->shape, ratio, frequency);
    model->dev->ops->copy_in(model->dev, data, frequency, sizeof frequency);
    *rope = (struct rope){ data, dim };
    return true;
}

static uint32_t entry_bytes(const struct shape *shape, enum numerics numerics)
{
    return numerics == NUMERICS_EXACT ? 4 * shape->head_dim : ENTRY_BYTES_OFFICIAL;
}

static uint32_t index_bytes(const struct shape *shape, enum numerics numerics)
{
    return numerics == NUMERICS_EXACT ? 4 * shape->index_dim : INDEX_BYTES_OFFICIAL;
}

enum status model_layout(const struct shape *shape, enum numerics numerics,
                         struct kv_layout *layout)
{
    uint32_t drafts = shape->drafter == DRAFTER_MTP ? shape->drafter_blocks : 0;
    uint32_t ratio[SHAPE_MOST_LAYERS];
    for (uint32_t l = 0; l < shape->layers + drafts; l++) ratio[l] = shape->layer[l].ratio;
    return kv_layout_init(layout, &(struct kv_geometry){
                                      .ratio = ratio,
                                      .layers = shape->layers,
                                      .drafts = drafts,
                                      .entry_dim = shape->head_dim,
                                      .index_dim = shape->index_dim,
                                      .entry_bytes = entry_bytes(shape, numerics),
                                      .index_bytes = index_bytes(shape, numerics),
                                  });
}

enum status model_open(const struct model_options *options, struct model *model, struct err *err)
{
    const struct shape *shape = options->shape;
    enum numerics numerics = options->dev->numerics;
    *model = (struct model){
        .shape = shape,
        .weights = options->weights,
        .dev = options->dev,
        .most_tokens = options->most_tokens,
        .most_rows = options->most_rows,
        .entry_bytes = entry_bytes(shape, numerics),
        .index_bytes = index_bytes(shape, numerics),
    };
    model->piece = calloc(PIECES_MOST, sizeof *model->piece);
    if (!model->piece) return fail(err, NO_MEMORY, "no memory for the model's table of buffers");
    if (model_layout(shape, numerics, &model->layout) != OK) {
        model_close(model);
        return fail(err, NO_MEMORY, "no memory for the KV layout");
    }
    if (!take_activations(model) || !take_rope(model, &model->rope_plain, 0) ||
        !take_rope(model, &model->rope_compressed, SHAPE_CSA_RATIO)) {
        uint32_t tokens = options->most_tokens;
        model_close(model);
        return fail(err, NO_MEMORY, "no memory for the activations of %u tokens", tokens);
    }
    return OK;
}

static void give_kv(struct model *model)
{
    const struct ops *ops = model->dev->ops;
    if (model->g) ops->free(model->dev, model->g, model->g_bytes);
    if (model->w) ops->free(model->dev, model->w, model->w_bytes);
    if (model->state) ops->free(model->dev, model->state, model->state_bytes);
    model->g = model->w = model->state = NULL;
}

size_t model_kv_bytes(const struct model *model, const struct model_kv *kv)
{
    return model->layout.g_bytes * kv->g_blocks + model->layout.w_bytes * kv->w_pages +
           model->layout.state_bytes * kv->states;
}

enum status model_take_kv(struct model *model, const struct model_kv *kv, struct err *err)
{
    const struct ops *ops = model->dev->ops;
    give_kv(model);
    model->g_bytes = model->layout.g_bytes * kv->g_blocks;
    model->w_bytes = model->layout.w_bytes * kv->w_pages;
    model->state_bytes = model->layout.state_bytes * kv->states;
    model->g = ops->alloc(model->dev, model->g_bytes);
    model->w = ops->alloc(model->dev, model->w_bytes);
    model->state = ops->alloc(model->dev, model->state_bytes);
    if (model->g && model->w && model->state) return OK;
    give_kv(model);
    return fail(err, NO_MEMORY, "no memory for %zu bytes of KV: lower kv-memory",
                model_kv_bytes(model, kv));
}

void model_close(struct model *model)
{
    give_kv(model);
    while (model->pieces) {
        struct device_piece *piece = &model->piece[--model->pieces];
        model->dev->ops->free(model->dev, piece->data, piece->bytes);
    }
    free(model->piece);
    kv_layout_release(&model->layout);
    *model = (struct model){ 0 };
}

/* ---- views --------------------------------------------------------------------------------- */

static struct mat rows_of(struct mat mat, uint32_t rows)
{
    must(rows <= mat.rows);
    mat.rows = rows;
    return mat;
}

static struct mat cut(struct mat mat, uint32_t rows, uint32_t cols)
{
    must(rows <= mat.rows && cols <= mat.cols);
    mat.rows = rows;
    mat.cols = mat.stride = cols;
    return mat;
}

static struct kv_plane g_plane(const struct model *m, size_t offset, uint32_t row_bytes,
                               uint32_t ratio)
{
    return (struct kv_plane){ m->g + offset, m->layout.g_bytes, row_bytes,
                              KV_BLOCK_TOKENS / ratio };
}

static struct kv_plane w_plane(const struct model *m, size_t offset, uint32_t row_bytes,
                               uint32_t rows)
{
    return (struct kv_plane){ m->w + offset, m->layout.w_bytes, row_bytes, rows };
}

/* ---- attention ----------------------------------------------------------------------------- */

/* One layer's attention under way: what its steps share. */
struct attention {
    struct model *m;
    const struct layer_weights *w;
    const struct kv_layer *kv;
    const struct batch *batch;
    struct rope rope;
    uint32_t tokens;
};

static void compress_entries(const struct attention *a)
{
    struct model *m = a->m;
    const struct shape *s = m->shape;
    const struct compressor_weights *c = &a->w->compressor;
    uint32_t ratio = a->kv->ratio, width = shape_compress_width(ratio, s->head_dim);

    m->dev->ops->compress(
        m->dev, &(struct compress_args){
                    .value = cut(m->value, a->tokens, width),
                    .gate = cut(m->gate, a->tokens, width),
                    .ape = c->ape,
                    .norm = c->norm,
                    .ratio = ratio,
                    .dim = s->head_dim,
                    .eps = s->norm_eps,
                    .rope = a->rope,
                    .batch = a->batch,
                    .entries = g_plane(m, a->kv->entries, m->entry_bytes, ratio),
                    .tail = ratio == SHAPE_CSA_RATIO
                                ? w_plane(m, a->kv->tail, 2 * 4 * s->head_dim, SHAPE_CSA_RATIO)
                                : (struct kv_plane){ 0 },
                    .state = m->state + a->kv->state,
                    .state_stride = m->layout.state_bytes,
                });
}

static void compress_keys(const struct attention *a)
{
    struct model *m = a->m;
    const struct shape *s = m->shape;
    const struct compressor_weights *c = &a->w->indexer.compressor;

    m->dev->ops->compress(
        m->dev, &(struct compress_args){
                    .value = rows_of(m->key_value, a->tokens),
                    .gate = rows_of(m->key_gate, a->tokens),
                    .ape = c->ape,
                    .norm = c->norm,
                    .ratio = SHAPE_CSA_RATIO,
                    .dim = s->index_dim,
                    .eps = s->norm_eps,
                    .rope = a->rope,
                    .index = true,
                    .batch = a->batch,
                    .entries = g_plane(m, a->kv->keys, m->index_bytes, SHAPE_CSA_RATIO),
                    .tail = w_plane(m, a->kv->key_tail, 2 * 4 * s->index_dim, SHAPE_CSA_RATIO),
                    .state = m->state + a->kv->key_state,
                    .state_stride = m->layout.state_bytes,
                });
}

static void select_entries(const struct attention *a)
{
    struct model *m = a->m;
    const struct shape *s = m->shape;
    m->dev->ops->indexer(m->dev,
                         &(struct indexer_args){
                             .q = rows_of(m->iq, a->tokens),
                             .weights = rows_of(m->iw, a->tokens),
                             .heads = s->index_heads,
                             .dim = s->index_dim,
                             .topk = s->index_topk,
                             .ratio = SHAPE_CSA_RATIO,
                             .rope = a->rope,
                             .batch = a->batch,
                             .keys = g_plane(m, a->kv->keys, m->index_bytes, SHAPE_CSA_RATIO),
                             .selected = m->selected,
                             .count = m->selected_count,
                         });
}

/* x -> every product that starts from it: query latent, KV, compressors, indexer weights. */
static void project_input(const struct attention *a, struct mat x)
{
    struct model *m = a->m;
    const struct layer_weights *w = a->w;
    uint32_t t = a->tokens, width = shape_compress_width(a->kv->ratio, m->shape->head_dim);
    struct linear_args args = { .in = x };
    struct linear_part *part = args.part;

    *part++ = (struct linear_part){ w->wq_a, rows_of(m->qr_raw, t), false };
    *part++ = (struct linear_part){ w->wkv, rows_of(m->kv, t), false };
    if (a->kv->ratio) {
        *part++ = (struct linear_part){ w->compressor.wkv, cut(m->value, t, width), true };
        *part++ = (struct linear_part){ w->compressor.wgate, cut(m->gate, t, width), true };
    }
    if (a->kv->ratio == SHAPE_CSA_RATIO) {
        const struct compressor_weights *c = &w->indexer.compressor;
        *part++ = (struct linear_part){ c->wkv, rows_of(m->key_value, t), true };
        *part++ = (struct linear_part){ c->wgate, rows_of(m->key_gate, t), true };
        *part++ = (struct linear_part){ w->indexer.weights_proj, rows_of(m->iw, t), false };
    }
    args.count = (uint32_t)(part - args.part);
    m->dev->ops->linear(m->dev, &args);
}

/* query latent -> heads, and the indexer's heads */
static void project_query(const struct attention *a)
{
    struct model *m = a->m;
    const struct shape *s = m->shape;
    struct mat qr = rows_of(m->qr, a->tokens), q = rows_of(m->q, a->tokens);
    bool indexed = a->kv->ratio == SHAPE_CSA_RATIO;

    m->dev->ops->rmsnorm(m->dev, &(struct rmsnorm_args){ .out = qr,
                                                         .in = rows_of(m->qr_raw, a->tokens),
                                                         .weight = a->w->q_norm,
                                                         .eps = s->norm_eps });
    struct linear_args args = { .in = qr, .count = indexed ? 2 : 1 };
    args.part[0] = (struct linear_part){ a->w->wq_b, q, false };
    if (indexed)
        args.part[1] = (struct linear_part){ a->w->indexer.wq_b, rows_of(m->iq, a->tokens), false };
    m->dev->ops->linear(m->dev, &args);
    m->dev->ops->query(
        m->dev,
        &(struct query_args){
            .q = q, .heads = s->heads, .eps = s->norm_eps, .rope = a->rope, .batch = a->batch });
}

static struct kv_plane window_of(const struct attention *a)
{
    return w_plane(a->m, a->kv->window, a->m->entry_bytes, KV_BLOCK_TOKENS);
}

/* What the tokens leave behind: window rows, entries and index keys that they complete. */
static void store_keys(const struct attention *a)
{
    struct model *m = a->m;
    m->dev->ops->window_store(m->dev, &(struct window_store_args){ .in = rows_of(m->kv, a->tokens),
                                                                   .norm = a->w->kv_norm,
                                                                   .eps = m->shape->norm_eps,
                                                                   .rope = a->rope,
                                                                   .batch = a->batch,
                                                                   .window = window_of(a) });
    if (a->kv->ratio) compress_entries(a);
    if (a->kv->ratio == SHAPE_CSA_RATIO) compress_keys(a);
}

static void attend(const struct attention *a)
{
    struct model *m = a->m;
    const struct shape *s = m->shape;
    uint32_t ratio = a->kv->ratio;

    if (ratio == SHAPE_CSA_RATIO) select_entries(a);
    m->dev->ops->attention(m->dev,
                           &(struct attention_args){
                               .q = rows_of(m->q, a->tokens),
                               .out = rows_of(m->o, a->tokens),
                               .heads = s->heads,
                               .sink = a->w->attn_sink,
                               .rope = a->rope,
                               .batch = a->batch,
                               .window = window_of(a),
                               .ratio = ratio,
                               .entries = ratio ? g_plane(m, a->kv->entries, m->entry_bytes, ratio)
                                                : (struct kv_plane){ 0 },
                               .selected = ratio == SHAPE_CSA_RATIO ? m->selected : NULL,
                               .count = ratio == SHAPE_CSA_RATIO ? m->selected_count : NULL,
                               .topk = s->index_topk,
                           });
}

static void aside(struct model *m, void (*part)(struct dev *dev))
{
    if (part) part(m->dev);
}

/* x [tokens, d] -> y [tokens, d] */
static void attention(const struct attention *a, struct mat x, struct mat y)
{
    struct model *m = a->m;
    const struct shape *s = m->shape;
    struct mat o = rows_of(m->o, a->tokens), z = rows_of(m->z, a->tokens);

    project_input(a, x);
    aside(m, m->dev->ops->aside_begin);
    store_keys(a);
    aside(m, m->dev->ops->aside_end);
    project_query(a);
    aside(m, m->dev->ops->aside_join);
    attend(a);
    struct linear_args down = { .in = o, .count = 1, .groups = s->o_groups, .raw = true };
    down.part[0] = (struct linear_part){ a->w->wo_a, z, false };
    m->dev->ops->linear(m->dev, &down);
    struct linear_args up = { .in = z, .count = 1 };
    up.part[0] = (struct linear_part){ a->w->wo_b, y, false };
    m->dev->ops->linear(m->dev, &up);
}

/* ---- experts ------------------------------------------------------------------------------- */

static void moe(struct model *m, const struct layer_weights *w, const struct batch *batch,
                struct mat x, struct mat y)
{
    const struct shape *s = m->shape;
    m->dev->ops->route(m->dev, &(struct route_args){ .in = x,
                                                     .gate = w->gate,
                                                     .bias = w->bias,
                                                     .table = w->tid2eid,
                                                     .id = batch->id,
                                                     .live = batch->live,
                                                     .topk = s->experts_per_token,
                                                     .scaling = s->routed_scaling,
                                                     .expert = m->expert,
                                                     .weight = m->expert_weight });
    m->dev->ops->experts(m->dev, &(struct experts_args){
                                     .in = x,
                                     .out = y,
                                     .expert = m->expert,
                                     .weight = m->expert_weight,
                                     .experts = s->experts,
                                     .topk = s->experts_per_token,
                                     .inter = s->inter,
                                     .limit = s->swiglu_limit,
                                     .w1 = (const struct weight *const *)w->w1,
                                     .w2 = (const struct weight *const *)w->w2,
                                     .w3 = (const struct weight *const *)w->w3,
                                 });
}

/* ---- a layer ------------------------------------------------------------------------------- */

/* The output of a sub-layer waits in y until the next one's entry, or leave, spreads it. */
static struct mat output(const struct model *m, uint32_t tokens)
{
    return rows_of(m->y, tokens);
}

static const struct mat nothing = { 0 };

static void enter(struct model *m, struct mat streams, struct mat after,
                  const struct hyper_weights *h, const struct weight *norm)
{
    const struct shape *s = m->shape;
    m->dev->ops->hyper_pre(m->dev,
                           &(struct hyper_pre_args){ .streams = streams,
                                                     .after = after,
                                                     .fn = h->fn,
                                                     .base = h->base,
                                                     .scale = h->scale,
                                                     .norm = norm,
                                                     .norm_eps = s->norm_eps,
                                                     .hyper_eps = s->hc_eps,
                                                     .copies = s->streams,
                                                     .iterations = s->sinkhorn_iters,
                                                     .out = rows_of(m->x, streams.rows),
                                                     .post = rows_of(m->post, streams.rows),
                                                     .comb = rows_of(m->comb, streams.rows) });
}

static void leave(struct model *m, struct mat streams)
{
    m->dev->ops->hyper_post(m->dev,
                            &(struct hyper_post_args){ .streams = streams,
                                                       .in = output(m, streams.rows),
                                                       .post = rows_of(m->post, streams.rows),
                                                       .comb = rows_of(m->comb, streams.rows),
                                                       .copies = m->shape->streams });
}

static void block(struct model *m, const struct layer_weights *w, const struct kv_layer *kv,
                  const struct batch *batch, struct mat streams, struct mat after)
{
    uint32_t t = batch->tokens;
    struct mat x = rows_of(m->x, t), y = output(m, t);
    struct attention a = { .m = m,
                           .w = w,
                           .kv = kv,
                           .batch = batch,
                           .rope = kv->ratio ? m->rope_compressed : m->rope_plain,
                           .tokens = t };

    enter(m, streams, after, &w->hc_attn, w->attn_norm);
    attention(&a, x, y);
    enter(m, streams, y, &w->hc_ffn, w->ffn_norm);
    moe(m, w, batch, x, y);
}

void model_embed(struct model *m, const struct batch *batch)
{
    m->dev->ops->embed(m->dev, &(struct embed_args){ .out = rows_of(m->streams, batch->tokens),
                                                     .table = m->weights->embed,
                                                     .id = batch->id,
                                                     .copies = m->shape->streams });
}

void model_layer(struct model *m, uint32_t layer, const struct batch *batch)
{
    struct mat streams = rows_of(m->streams, batch->tokens);
    must(layer < m->shape->layers);
    block(m, &m->weights->layer[layer], &m->layout.layer[layer], batch, streams, nothing);
    leave(m, streams);
}

void model_forward(struct model *m, const struct batch *batch)
{
    struct mat streams = rows_of(m->streams, batch->tokens);
    model_embed(m, batch);
    for (uint32_t l = 0; l < m->shape->layers; l++)
        block(m, &m->weights->layer[l], &m->layout.layer[l], batch, streams,
              l ? output(m, batch->tokens) : nothing);
    leave(m, streams);
}

/* ---- the head ------------------------------------------------------------------------------ */

static void head(struct model *m, struct mat streams, const struct hyper_weights *h,
                 const struct weight *norm, const uint32_t *row, uint32_t count)
{
    const struct shape *s = m->shape;
    struct mat picked = rows_of(m->row_streams, count), out = rows_of(m->row, count);

    m->dev->ops->gather_rows(
        m->dev, &(struct gather_rows_args){ .out = picked, .in = streams, .row = row });
    m->dev->ops->hyper_head(m->dev, &(struct hyper_head_args){ .streams = picked,
                                                               .fn = h->fn,
                                                               .base = h->base,
                                                               .scale = h->scale,
                                                               .norm = norm,
                                                               .norm_eps = s->norm_eps,
                                                               .hyper_eps = s->hc_eps,
                                                               .copies = s->streams,
                                                               .out = out });
    struct linear_args args = { .in = out, .count = 1 };
    args.part[0] = (struct linear_part){ m->weights->head, rows_of(m->logits, count), true };
    m->dev->ops->linear(m->dev, &args);
}

void model_logits(struct model *m, const uint32_t *row, uint32_t count)
{
    head(m, m->streams, &m->weights->hc_head, m->weights->norm, row, count);
}

/* ---- the MTP block ------------------------------------------------------------------------- */

void model_draft(struct model *m, const struct batch *batch)
{
    const struct shape *s = m->shape;
    const struct mtp_weights *w = &m->weights->mtp[0];
    uint32_t t = batch->tokens, n = s->streams, d = s->hidden;
    must(s->drafter == DRAFTER_MTP);

    struct mat e = rows_of(m->x, t), e_out = rows_of(m->y, t);
    m->dev->ops->embed(
        m->dev,
        &(struct embed_args){ .out = e, .table = m->weights->embed, .id = batch->id, .copies = 1 });
    m->dev->ops->rmsnorm(m->dev, &(struct rmsnorm_args){
                                     .out = e, .in = e, .weight = w->enorm, .eps = s->norm_eps });
    struct linear_args e_proj = { .in = e, .count = 1 };
    e_proj.part[0] = (struct linear_part){ w->e_proj, e_out, false };
    m->dev->ops->linear(m->dev, &e_proj);

    /* h_k = h_proj norm(X_k): the streams as n * tokens rows of d channels. */
    struct mat in = mat_of(m->streams.data, m->streams.type, t * n, d);
    struct mat h = mat_of(m->draft_streams.data, m->draft_streams.type, t * n, d);
    m->dev->ops->rmsnorm(m->dev, &(struct rmsnorm_args){
                                     .out = h, .in = in, .weight = w->hnorm, .eps = s->norm_eps });
    struct linear_args h_proj = { .in = h, .count = 1 };
    h_proj.part[0] = (struct linear_part){ w->h_proj, in, false };
    m->dev->ops->linear(m->dev, &h_proj);

    struct mat streams = rows_of(m->draft_streams, t);
    m->dev->ops->mtp_join(
        m->dev, &(struct mtp_join_args){
                    .out = streams, .e = e_out, .h = rows_of(m->streams, t), .copies = n });
    block(m, &w->layer, &m->layout.layer[s->layers], batch, streams, nothing);
    leave(m, streams);
}

void model_draft_logits(struct model *m, const uint32_t *row, uint32_t count)
{
    const struct mtp_weights *w = &m->weights->mtp[0];
    head(m, m->draft_streams, &w->hc_head, w->norm, row, count);
}
