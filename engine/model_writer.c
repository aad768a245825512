/* model_writer.c - the list of needs, turned into files. */
#include "engine/model_writer.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>
#include "engine/random_tensor.h"
#include "engine/tensors.h"

struct writer {
    const struct model_writer_options *options;
    struct tensor_list list;
    uint32_t files;
    uint32_t *file;   // [list.count] of each need
    uint32_t *order;  // [list.count] needs by file, type and name
    struct buf index;
    struct err *err;
};

/* ---- config.json ---------------------------------------------------------------------------- */

static void add_ratios(struct buf *out, const struct shape *s)
{
    buf_addf(out, " \"compress_ratios\": [");
    for (uint32_t i = 0; i < s->layers + s->drafter_blocks; i++)
        buf_addf(out, "%s%u", i ? ", " : "", s->layer[i].ratio);
    buf_addf(out, "],\n");
}

static void add_dspark(struct buf *out, const struct shape *s)
{
    buf_addf(out, " \"dspark_block_size\": 5,\n \"dspark_markov_rank\": %u,\n", s->dspark_rank);
    buf_addf(out, " \"dspark_target_layer_ids\": [");
    for (uint32_t i = 0; i < s->dspark_targets; i++)
        buf_addf(out, "%s%u", i ? ", " : "", s->layers - s->dspark_targets + i);
    buf_addf(out, "],\n");
}

void model_config(const struct shape *s, struct buf *out)
{
    buf_addf(out, "{\n \"architectures\": [\"DeepseekV4ForCausalLM\"],\n"
                  " \"model_type\": \"deepseek_v4\",\n");
    const struct {
        const char *name;
        uint32_t value;
    } whole[] = {
        { "vocab_size", s->vocab },
        { "hidden_size", s->hidden },
        { "num_hidden_layers", s->layers },
        { "num_attention_heads", s->heads },
        { "num_key_value_heads", 1 },
        { "head_dim", s->head_dim },
        { "qk_rope_head_dim", s->rope_dim },
        { "q_lora_rank", s->q_rank },
        { "o_groups", s->o_groups },
        { "o_lora_rank", s->o_rank },
        { "sliding_window", s->window },
        { "index_n_heads", s->index_heads },
        { "index_head_dim", s->index_dim },
        { "index_topk", s->index_topk },
        { "moe_intermediate_size", s->inter },
        { "n_routed_experts", s->experts },
        { "n_shared_experts", 1 },
        { "num_experts_per_tok", s->experts_per_token },
        { "num_hash_layers", s->hash_layers },
        { "hc_mult", s->streams },
        { "hc_sinkhorn_iters", s->sinkhorn_iters },
        { "max_position_embeddings", s->positions },
        { "num_nextn_predict_layers", s->drafter == DRAFTER_MTP ? s->drafter_blocks : 0 },
        { "bos_token_id", s->bos },
        { "eos_token_id", s->eos },
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        buf_addf(out, " \"%s\": %u,\n", whole[i].name, whole[i].value);
    const struct {
        const char *name;
        float value;
    } real[] = {
        { "routed_scaling_factor", s->routed_scaling },
        { "swiglu_limit", s->swiglu_limit },
        { "hc_eps", s->hc_eps },
        { "rms_norm_eps", s->norm_eps },
        { "rope_theta", s->rope_theta },
        { "compress_rope_theta", s->compress_rope_theta },
    };
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        buf_addf(out, " \"%s\": %.9g,\n", real[i].name, (double)real[i].value);
    add_ratios(out, s);
    if (s->drafter == DRAFTER_DSPARK) add_dspark(out, s);
    buf_addf(out,
             " \"rope_scaling\": {\"type\": \"yarn\", \"factor\": %.9g, \"beta_fast\": %.9g, "
             "\"beta_slow\": %.9g, \"original_max_position_embeddings\": %u},\n",
             (double)s->yarn_factor, (double)s->yarn_beta_fast, (double)s->yarn_beta_slow,
             s->yarn_original);
    buf_addf(out,
             " \"quantization_config\": {\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", "
             "\"quant_method\": \"fp8\", \"scale_fmt\": \"ue8m0\", "
             "\"weight_block_size\": [128, 128]},\n");
    buf_addf(out,
             " \"expert_dtype\": \"%s\",\n \"scoring_func\": \"sqrtsoftplus\",\n"
             " \"topk_method\": \"noaux_tc\",\n \"norm_topk_prob\": true,\n"
             " \"hidden_act\": \"silu\",\n \"tie_word_embeddings\": false,\n"
             " \"attention_bias\": false,\n \"attention_dropout\": 0.0,\n"
             " \"torch_dtype\": \"bfloat16\",\n \"use_cache\": true,\n"
             " \"initializer_range\": 0.02\n}\n",
             s->expert_type == DT_I8 ? "fp4" : "fp8");
}

/* ---- files ---------------------------------------------------------------------------------- */

static enum status write_all(struct writer *w, int fd, const char *path, struct slice bytes)
{
    while (bytes.size) {
        ssize_t wrote = write(fd, bytes.data, bytes.size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail(w->err, IO_FAILED, "%s: %s", path, strerror(errno));
        bytes = slice_from(bytes, (size_t)wrote);
    }
    return OK;
}

/* A new file in the directory; path[PATH_MAX] receives its path. */
static enum status create(struct writer *w, const char *name, char *path, int *fd)
{
    snprintf(path, PATH_MAX, "%s/%s", w->options->dir, name);
    *fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return *fd < 0 ? fail(w->err, IO_FAILED, "%s: %s", path, strerror(errno)) : OK;
}

static enum status close_file(struct writer *w, int fd, const char *path, enum status status)
{
    if (close(fd) != 0 && status == OK)
        return fail(w->err, IO_FAILED, "%s: %s", path, strerror(errno));
    return status;
}

static enum status write_text(struct writer *w, const char *name, const struct buf *text)
{
    char path[PATH_MAX];
    int fd;

    if (buf_status(text) != OK) return fail(w->err, NO_MEMORY, "no memory to write %s", name);
    enum status status = create(w, name, path, &fd);
    if (status != OK) return status;
    return close_file(w, fd, path, write_all(w, fd, path, buf_slice(text)));
}

static enum status write_config(struct writer *w)
{
    struct buf text;

    buf_init(&text, 0);
    model_config(w->options->shape, &text);
    enum status status = write_text(w, "config.json", &text);
    buf_clear(&text);
    buf_addf(&text,
             "{\n \"_from_model_config\": true,\n \"bos_token_id\": %u,\n"
             " \"eos_token_id\": %u,\n \"do_sample\": true,\n \"temperature\": 1.0,\n"
             " \"top_p\": 1.0\n}\n",
             w->options->shape->bos, w->options->shape->eos);
    if (status == OK) status = write_text(w, "generation_config.json", &text);
    buf_release(&text);
    return status;
}

/* ---- shards --------------------------------------------------------------------------------- */

/* 0: embed; 1..layers: the layers; then the head; then the drafter. */
static uint32_t file_of(const struct shape *shape, const struct tensor_need *need)
{
    if (need->owner == OWNER_LAYER) return 1 + need->block;
    if (need->owner == OWNER_DRAFTER) return 2 + shape->layers + need->block;
    return need->part == PART_EMBED ? 0 : 1 + shape->layers;
}

static int type_rank(enum dtype type)
{
    static const enum dtype rank[] = { DT_I64, DT_F32, DT_BF16, DT_F8_E8M0, DT_F8_E4M3, DT_I8 };
    for (int i = 0; i < 6; i++)
        if (rank[i] == type) return i;
    return 6;
}

static int by_file(const void *a, const void *b, void *context)
{
    const struct writer *w = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const struct tensor_need *p = &w->list.need[x], *q = &w->list.need[y];

    if (w->file[x] != w->file[y]) return w->file[x] < w->file[y] ? -1 : 1;
    if (p->type != q->type) return type_rank(p->type) - type_rank(q->type);
    return strcmp(p->name, q->name);
}

/* The header of needs order[from..to), padded to a multiple of 8; returns the bytes of data. */
static uint64_t add_header(const struct writer *w, uint32_t from, uint32_t to, struct buf *out)
{
    uint64_t at = 0;

    buf_add(out, "\0\0\0\0\0\0\0\0", 8);
    for (uint32_t i = from; i < to; i++) {
        const struct tensor_need *need = &w->list.need[w->order[i]];
        buf_addf(out, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%u", i == from ? "{" : ",", need->name,
                 dtype_name(need->type), need->shape[0]);
        if (need->dims == 2) buf_addf(out, ",%u", need->shape[1]);
        uint64_t end = at + tensor_bytes(need);
        buf_addf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                 (unsigned long long)end);
        at = end;
    }
    buf_add_byte(out, '}');
    while (out->size % 8 && buf_status(out) == OK) buf_add_byte(out, ' ');
    if (buf_status(out) != OK) return 0;
    uint64_t size = out->size - 8;
    for (uint32_t i = 0; i < 8; i++) out->data[i] = (char)(size >> 8 * i & 0xff);
    return at;
}

static enum status write_random(struct writer *w, int fd, const char *path, uint32_t from,
                                uint32_t to)
{
    enum status status = OK;

    for (uint32_t i = from; i < to && status == OK; i++) {
        const struct tensor_need *need = &w->list.need[w->order[i]];
        char *data = malloc((tensor_bytes(need) + 7) / 8 * 8);
        if (!data) return fail(w->err, NO_MEMORY, "no memory for tensor %s", need->name);
        random_tensor(need, w->options->shape, w->options->seed, data);
        status = write_all(w, fd, path, (struct slice){ data, tensor_bytes(need) });
        free(data);
    }
    return status;
}

static enum status write_shard(struct writer *w, uint32_t number, uint32_t from, uint32_t to)
{
    char name[64], path[PATH_MAX];
    struct buf header;
    int fd;

    snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", number + 1, w->files);
    for (uint32_t i = from; i < to; i++)
        buf_addf(&w->index, "%s  \"%s\": \"%s\"", i ? ",\n" : "", w->list.need[w->order[i]].name,
                 name);
    buf_init(&header, 0);
    uint64_t data_bytes = add_header(w, from, to, &header);
    enum status status = buf_status(&header);
    if (status != OK) {
        status = fail(w->err, status, "no memory for the header of %s", name);
    } else if ((status = create(w, name, path, &fd)) == OK) {
        status = write_all(w, fd, path, buf_slice(&header));
        if (status == OK && w->options->random) status = write_random(w, fd, path, from, to);
        if (status == OK && ftruncate(fd, (off_t)(header.size + data_bytes)) != 0)
            status = fail(w->err, IO_FAILED, "%s: %s", path, strerror(errno));
        status = close_file(w, fd, path, status);
    }
    buf_release(&header);
    return status;
}

static enum status write_shards(struct writer *w)
{
    enum status status = OK;
    uint32_t from = 0;

    buf_addf(&w->index, "{\n \"metadata\": {\"total_size\": %llu},\n \"weight_map\": {\n",
             (unsigned long long)w->list.bytes);
    for (uint32_t number = 0; number < w->files && status == OK; number++) {
        uint32_t to = from;
        while (to < w->list.count && w->file[w->order[to]] == number) to++;
        status = write_shard(w, number, from, to);
        from = to;
    }
    buf_addf(&w->index, "\n }\n}\n");
    return status == OK ? write_text(w, "model.safetensors.index.json", &w->index) : status;
}

enum status model_write(const struct model_writer_options *options, struct model_written *written,
                        struct err *err)
{
    const struct shape *shape = options->shape;
    struct writer w = { .options = options, .err = err };

    enum status status = tensor_list_init(&w.list, shape, err);
    if (status != OK) return status;
    buf_init(&w.index, 0);
    w.files = 2 + shape->layers + shape->drafter_blocks;
    w.file = malloc(w.list.count * sizeof *w.file);
    w.order = malloc(w.list.count * sizeof *w.order);
    if (!w.file || !w.order) {
        status = fail(err, NO_MEMORY, "no memory for %u tensors", w.list.count);
    } else {
        for (uint32_t i = 0; i < w.list.count; i++) {
            w.file[i] = file_of(shape, &w.list.need[i]);
            w.order[i] = i;
        }
        qsort_r(w.order, w.list.count, sizeof *w.order, by_file, &w);
        status = write_config(&w);
        if (status == OK) status = write_shards(&w);
    }
    *written = (struct model_written){ w.list.count, w.files, w.list.bytes };
    free(w.file);
    free(w.order);
    buf_release(&w.index);
    tensor_list_release(&w.list);
    return status;
}
