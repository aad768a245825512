/* rows.c - operations that move whole rows: embed, gather_rows, mtp_join; and feed, which moves ids. */
#include "kernels/cpu/cpu.h"

static void embed_row(const struct weight *table, uint32_t id, float *out)
{
    must(id < table->rows);
    const char *row =
        (const char *)table->data + (size_t)id * table->cols * dtype_size(table->type);

    if (table->type == DT_F32) {
        memcpy(out, row, table->cols * sizeof(float));
        return;
    }
    must(table->type == DT_BF16);
    for (uint32_t i = 0; i < table->cols; i++) {
        uint16_t half;  // the mapped file may be aligned to one byte only
        memcpy(&half, row + (size_t)i * 2, 2);
        out[i] = bf16_to_f32(half);
    }
}

void cpu_embed(struct dev *dev, const struct embed_args *args)
{
    const struct weight *table = args->table;
    (void)dev;

    must(args->out.cols == args->copies * table->cols);
    for (uint32_t t = 0; t < args->out.rows; t++) {
        float *out = mat_row(&args->out, t);
        embed_row(table, args->id[t], out);
        for (uint32_t copy = 1; copy < args->copies; copy++)
            memcpy(out + (size_t)copy * table->cols, out, table->cols * sizeof(float));
    }
}

void cpu_gather_rows(struct dev *dev, const struct gather_rows_args *args)
{
    (void)dev;
    for (uint32_t i = 0; i < args->out.rows; i++) {
        must(args->row[i] < args->in.rows);
        memcpy(mat_row(&args->out, i), mat_row(&args->in, args->row[i]),
               args->out.cols * sizeof(float));
    }
}

void cpu_mtp_join(struct dev *dev, const struct mtp_join_args *args)
{
    bool official = is_official(cpu_of(dev));
    uint32_t dim = args->e.cols;

    for (uint32_t t = 0; t < args->out.rows; t++) {
        const float *e = mat_row(&args->e, t), *h = mat_row(&args->h, t);
        float *out = mat_row(&args->out, t);
        for (uint32_t copy = 0; copy < args->copies; copy++)
            for (uint32_t i = 0; i < dim; i++) {
                size_t at = (size_t)copy * dim + i;
                float sum = e[i] + h[at];
                out[at] = official ? round_bf16(sum) : sum;
            }
    }
}

void cpu_feed(struct dev *dev, const struct feed_args *args)
{
    (void)dev;
    for (uint32_t i = 0; i < args->tokens; i++)
        if (args->from[i] != NO_ROW) args->id[i] = args->out[args->from[i]].id;
}
