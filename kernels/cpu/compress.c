/* compress.c - entries of 4 or 128 tokens out of raw values and gates (model.md 4.5).
 *
 * The rows of a block lie in this chunk or in the sequence's state; a chunk that starts at a page's
 * end first takes the rows before it from the page's tail into the state, since the sequence may be
 * resuming there. Emitting collects pointers to the rows, so that the sum over a block is the same
 * wherever chunks were cut. Only when every entry is out are the chunk's last rows kept, since they
 * take the place of rows that the entries were made of.
 */
#include "kernels/cpu/vectors.h"
#include "kernels/cpu/share.h"

enum { ROWS_MOST = 128 };

struct compress_item {
    uint32_t seq, entry;
};

struct compress_job {
    const struct compress_args *args;
    const struct compress_item *item;
    bool official;
};

struct compress_row {
    const float *value, *gate;
    const float *ape;  // still to be added; a row of zeros where it was
};

static const float zeros[ENTRY_DIM];

static uint32_t width_of(const struct compress_args *args)  // channels of one row
{
    return args->ratio == 4 ? 2 * args->dim : args->dim;
}

/* The private row of a position: value[width], gate[width]. */
static float *state_row(const struct compress_args *args, uint32_t seq, uint32_t position)
{
    uint32_t slots = args->ratio == 4 ? 8 : args->ratio;
    char *state = args->state + (size_t)args->batch->state[seq] * args->state_stride;

    return (float *)(void *)state + (size_t)(position % slots) * 2 * width_of(args);
}

/* First entry that may be stored. */
static uint32_t stored_from(const struct compress_args *args, uint32_t seq)
{
    const struct batch *batch = args->batch;
    return batch->g_from ? batch->g_from[seq] / args->ratio : 0;
}

static float *tail_row(const struct compress_args *args, uint32_t seq, uint32_t position)
{
    const struct batch *batch = args->batch;
    uint32_t column = position / BLOCK_TOKENS - batch->w_first[seq];
    uint32_t page = batch->w_table[(size_t)seq * batch->w_stride + column];

    return (float *)(void *)plane_row(&args->tail, page, position % 4);
}

/* The row of `position` from channel `half` on; half > 0 only for rows of a current block. */
static struct compress_row find_row(const struct compress_args *args, uint32_t seq,
                                    uint32_t position, uint32_t half)
{
    const struct batch *batch = args->batch;
    uint32_t first = batch->first[seq], start = batch->position[first], width = width_of(args);

    if (position >= start) {
        uint32_t t = first + position - start;
        const float *ape = weight_floats(args->ape) + (size_t)(position % args->ratio) * width;
        return (struct compress_row){
            (const float *)mat_row(&args->value, t) + half,
            (const float *)mat_row(&args->gate, t) + half,
            ape + half,
        };
    }
    const float *state = state_row(args, seq, position) + half;
    return (struct compress_row){ state, state + width, zeros };
}

/* out = sum of values weighted by the softmax of the gates, channel by channel, rows in order */
INLINE void pool_rows(float *out, const struct compress_row *row, uint32_t rows, uint32_t dim,
                      bool official)
{
    for (uint32_t i = 0; i < dim; i += VF_LANES) {
        vf gate[ROWS_MOST], peak, sum = vf_all(0), total = vf_all(0);

        for (uint32_t r = 0; r < rows; r++)
            gate[r] = vf_add(vf_load(row[r].gate + i), vf_load(row[r].ape + i));
        peak = gate[0];
        for (uint32_t r = 1; r < rows; r++) peak = vf_max(peak, gate[r]);
        for (uint32_t r = 0; r < rows; r++) {
            vf e = vf_exp(vf_sub(gate[r], peak));
            sum = vf_add(sum, e);
            total = vf_fma(e, vf_load(row[r].value + i), total);
        }
        vf_store(out + i, vf_round(vf_div(total, sum), official));
    }
}

static void emit_entries(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct compress_job *job = context;
    const struct compress_args *args = job->args;
    const struct batch *batch = args->batch;
    uint32_t ratio = args->ratio, rows_each = BLOCK_TOKENS / ratio;
    (void)thread;

    for (uint32_t i = from; i < to; i++) {
        uint32_t seq = job->item[i].seq, entry = job->item[i].entry, rows = 0;
        uint32_t position = entry * ratio;
        uint32_t block = batch->g_table[(size_t)seq * batch->g_stride + position / BLOCK_TOKENS];
        char *out = plane_row(&args->entries, block, entry % rows_each);
        struct compress_row row[ROWS_MOST];
        float x[ENTRY_DIM];
        struct turn turn;

        if (ratio == 4 && entry > 0)
            for (uint32_t r = 4; r > 0; r--) row[rows++] = find_row(args, seq, position - r, 0);
        for (uint32_t r = 0; r < ratio; r++)
            row[rows++] = find_row(args, seq, position + r, ratio == 4 ? args->dim : 0);
        pool_rows(x, row, rows, args->dim, job->official);
        row_norm(x, x, weight_floats(args->norm), args->dim, args->eps, job->official);
        turn_init(&turn, &args->rope, position, false);
        row_turn(x, args->dim, &turn, job->official);
        if (args->index) key_write(out, x, args->dim, job->official);
        else entry_write(out, x, args->dim, job->official);
    }
}

/* First halves of the four rows before a chunk that starts where a page ends. */
static void resume_from_tail(const struct compress_args *args, uint32_t seq)
{
    uint32_t start = args->batch->position[args->batch->first[seq]], dim = args->dim;

    if (!args->tail.base || start == 0 || start % BLOCK_TOKENS != 0) return;
    for (uint32_t position = start - 4; position < start; position++) {
        const float *tail = tail_row(args, seq, position);
        float *state = state_row(args, seq, position);
        memcpy(state, tail, dim * sizeof *tail);
        memcpy(state + width_of(args), tail + dim, dim * sizeof *tail);
    }
}

INLINE void keep_row(float *out, const float *in, const float *ape, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += VF_LANES)
        vf_store(out + i, vf_add(vf_load(in + i), vf_load(ape + i)));
}

/* What the next chunk needs: the sequence's last rows, and the tails of the pages that end here. */
static void keep_rows(void *context, uint32_t from, uint32_t to, uint32_t thread)
{
    const struct compress_job *job = context;
    const struct compress_args *args = job->args;
    const struct batch *batch = args->batch;
    uint32_t width = width_of(args), dim = args->dim, slots = args->ratio == 4 ? 8 : args->ratio;
    (void)thread;

    for (uint32_t t = from; t < to; t++) {
        uint32_t seq = batch->seq[t], position = batch->position[t];
        const float *value = mat_row(&args->value, t), *gate = mat_row(&args->gate, t);
        const float *ape = weight_floats(args->ape) + (size_t)(position % args->ratio) * width;

        if (batch->first[seq + 1] - t <= slots) {
            float *out = state_row(args, seq, position);
            memcpy(out, value, width * sizeof *value);
            keep_row(out + width, gate, ape, width);
        }
        if (args->tail.base && position % BLOCK_TOKENS >= BLOCK_TOKENS - 4) {
            float *out = tail_row(args, seq, position);
            memcpy(out, value, dim * sizeof *value);
            keep_row(out + dim, gate, ape, dim);
        }
    }
}

static void compress_check(const struct compress_args *args, bool official)
{
    uint32_t width = width_of(args), bytes = args->dim * (uint32_t)sizeof(float);

    if (official) bytes = args->index ? INDEX_BYTES_OFFICIAL : ENTRY_BYTES_OFFICIAL;
    must(args->ratio == 4 || args->ratio == BLOCK_TOKENS);
    must(args->dim % VF_LANES == 0 && args->dim <= ENTRY_DIM);
    must(!official || args->dim == (args->index ? INDEX_DIM : ENTRY_DIM));
    must(args->value.cols == width && args->gate.cols == width);
    must(args->ape->rows == args->ratio && args->ape->cols == width);
    must(args->entries.row_bytes == bytes);
    must(!args->tail.base || args->ratio == 4);
    must(args->rope.dim % VF_LANES == 0 && args->rope.dim <= ROPE_MOST);
}

void ISA(compress)(struct cpu_dev *cpu, const struct compress_args *args)
{
    const struct batch *batch = args->batch;
    struct compress_job job = { .args = args, .official = is_official(cpu) };
    struct compress_item *item;
    uint32_t items = 0;

    compress_check(args, job.official);
    cpu_scratch_begin(cpu);
    item = cpu_take(cpu, (batch->tokens / args->ratio + batch->seqs) * sizeof *item);
    if (!item) return;
    for (uint32_t seq = 0; seq < batch->seqs; seq++) {
        uint32_t first = batch->first[seq], end = batch->first[seq + 1];
        if (first == end) continue;
        uint32_t entry = batch->position[first] / args->ratio;
        uint32_t last = (batch->position[end - 1] + 1) / args->ratio;
        resume_from_tail(args, seq);
        if (entry < stored_from(args, seq)) entry = stored_from(args, seq);
        for (; entry < last; entry++) item[items++] = (struct compress_item){ seq, entry };
    }
    job.item = item;
    share_rows(cpu, items, args->ratio == 4 ? 8 : 1, emit_entries, &job);
    share_rows(cpu, batch->tokens, 64, keep_rows, &job);
}

OPERATION(compress)
