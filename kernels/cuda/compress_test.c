/* compress_test.c - compressed entries, states and tails on the GPU against the CPU twin, and with the
 * same bits however the sequences are cut into chunks, with or without their states at a page's end. */
#include "kernels/cuda/kv_testing.h"

enum { IDS = 4, PAGES = 3, MOST = 300 };

static const uint32_t total[IDS] = { MOST, 8, 131, 263 };
static const struct test_blocks blocks = { PAGES, PAGES };

struct kind {
    uint32_t ratio, dim, width, slots, row_bytes, rows;  // rows of a block
    bool index;
    size_t entry_bytes, tail_bytes, state_bytes;  // of everything
};

static struct kind kind_of(uint32_t ratio, bool index)
{
    struct kind k = { .ratio = ratio, .dim = index ? 128 : TEST_DIM, .index = index };
    k.width = ratio == 4 ? 2 * k.dim : k.dim;
    k.slots = ratio == 4 ? 8 : ratio;
    k.row_bytes = index ? INDEX_BYTES_OFFICIAL : ENTRY_BYTES_OFFICIAL;
    k.rows = 128 / ratio;
    k.entry_bytes = (size_t)IDS * PAGES * k.rows * k.row_bytes;
    k.tail_bytes = (size_t)IDS * PAGES * 4 * 2 * k.dim * 4;
    k.state_bytes = (size_t)IDS * k.slots * 2 * k.width * 4;
    return k;
}

struct inputs {  // [IDS * MOST, width], one sequence after another
    float *value, *gate, *ape, *norm;
};

struct memory {
    uint8_t *entries, *tail, *state;
};

static uint8_t *poison(size_t bytes)
{
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    memset(data, 0xff, bytes);
    return data;
}

static float *chunk_rows(const float *data, const struct test_seq *seq, uint32_t seqs,
                         uint32_t width)
{
    float *out = malloc((size_t)IDS * MOST * width * 4 + 1), *to = out;
    for (uint32_t s = 0; s < seqs; s++) {
        size_t count = (size_t)seq[s].tokens * width;
        memcpy(to, data + ((size_t)seq[s].id * MOST + seq[s].start) * width, count * 4);
        to += count;
    }
    return out;
}

static void compress_step(struct dev *dev, const struct kind *k, const struct inputs *in,
                          const struct memory *memory, const struct test_seq *seq, uint32_t seqs)
{
    struct test_batch batch = test_batch_make(dev, seq, seqs, blocks);
    uint32_t n = batch.batch.tokens;
    float *values = chunk_rows(in->value, seq, seqs, k->width);
    float *gates = chunk_rows(in->gate, seq, seqs, k->width);
    struct test_mat value = test_mat_from(dev, DT_F32, values, n, k->width);
    struct test_mat gate = test_mat_from(dev, DT_F32, gates, n, k->width);
    struct rope rope = test_rope(dev);
    struct weight *ape = test_vector(dev, in->ape, k->ratio, k->width);
    struct weight *norm = test_vector(dev, in->norm, 1, k->dim);
    struct kv_plane tail = { memory->tail, (size_t)4 * 2 * k->dim * 4, 2 * k->dim * 4, 4 };

    dev->ops->compress(dev, &(struct compress_args){
                                .value = value.mat,
                                .gate = gate.mat,
                                .ape = ape,
                                .norm = norm,
                                .ratio = k->ratio,
                                .dim = k->dim,
                                .eps = 1e-6f,
                                .rope = rope,
                                .index = k->index,
                                .batch = &batch.batch,
                                .entries = { memory->entries, (size_t)k->rows * k->row_bytes,
                                             k->row_bytes, k->rows },
                                .tail = k->ratio == 4 ? tail : (struct kv_plane){ 0 },
                                .state = (char *)memory->state,
                                .state_stride = (size_t)k->slots * 2 * k->width * 4,
                            });
    test_finish(dev);
    dev->ops->weight_free(dev, ape), dev->ops->weight_free(dev, norm);
    test_rope_release(dev, &rope);
    test_mat_release(dev, &value), test_mat_release(dev, &gate);
    free(values), free(gates);
    test_batch_release(&batch);
}

/* Every sequence takes chunks of the lengths of a list ending in 0, over and over, each starting at a
 * place of its own. `forget`: at a page's end states are lost. */
static struct memory compress_all(struct dev *dev, const struct kind *k, const struct inputs *in,
                                  const uint32_t *chunk, bool forget)
{
    struct memory host = { poison(k->entry_bytes), poison(k->tail_bytes), poison(k->state_bytes) };
    struct memory there = { test_to_device(dev, host.entries, k->entry_bytes),
                            test_to_device(dev, host.tail, k->tail_bytes),
                            test_to_device(dev, host.state, k->state_bytes) };
    uint32_t done[IDS] = { 0 }, next[IDS], chunks = 0, left = 1;
    while (chunk[chunks]) chunks++;
    for (uint32_t id = 0; id < IDS; id++) next[id] = id % chunks;

    while (left) {
        struct test_seq seq[IDS];
        left = 0;
        for (uint32_t id = 0; id < IDS; id++) {  // those that are done stay, with no rows
            uint32_t n = chunk[next[id]++ % chunks], rest = total[id] - done[id];
            if (forget && n > 128 - done[id] % 128) n = 128 - done[id] % 128;
            seq[id] = (struct test_seq){ id, done[id], n < rest ? n : rest };
            left += rest - seq[id].tokens;
        }
        compress_step(dev, k, in, &there, seq, IDS);
        for (uint32_t id = 0; id < IDS; id++) {
            done[id] += seq[id].tokens;
            size_t each = k->state_bytes / IDS;
            if (forget && seq[id].tokens && done[id] % 128 == 0 && done[id] < total[id])
                dev->ops->copy_in(dev, there.state + id * each, host.state, each);
        }
        test_finish(dev);
    }
    dev->ops->copy_out(dev, host.entries, there.entries, k->entry_bytes);
    dev->ops->copy_out(dev, host.tail, there.tail, k->tail_bytes);
    dev->ops->copy_out(dev, host.state, there.state, k->state_bytes);
    test_finish(dev);
    dev->ops->free(dev, there.entries, k->entry_bytes);
    dev->ops->free(dev, there.tail, k->tail_bytes);
    dev->ops->free(dev, there.state, k->state_bytes);
    return host;
}

static void memory_release(struct memory *memory)
{
    free(memory->entries), free(memory->tail), free(memory->state);
}

static void same_bytes(const char *what, const uint8_t *found, const uint8_t *wanted, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (found[i] != wanted[i])
            test_fail("%s: byte %zu of %zu: %#x, wanted %#x\n", what, i, bytes, found[i],
                      wanted[i]);
}

static void check_kind(uint32_t ratio, bool index)
{
    static const uint32_t whole[] = { MOST, 0 }, sevens[] = { 7, 0 },
                          edges[] = { 121, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 115, 1, 0 },
                          mixed[] = { 1, 5, 122, 3, 125, 8, 9, 64, 0 };
    struct kind k = kind_of(ratio, index);
    struct dev *gpu = test_gpu(), *cpu = test_cpu();
    size_t count = (size_t)IDS * MOST * k.width;
    struct inputs in = { test_normals(count, 1, 1), test_normals(count, 2, 2),
                         test_normals((size_t)ratio * k.width, 1, 3), test_normals(k.dim, 1, 4) };
    for (size_t i = 0; i < count; i++) in.gate[i] += 1e-3f * (float)(i % 7);  // not bf16

    struct memory wanted = compress_all(cpu, &k, &in, whole, false);
    struct memory found = compress_all(gpu, &k, &in, whole, false);
    print_message("ratio %u, dim %u: ", ratio, k.dim);
    test_rows_close("entries", found.entries, wanted.entries, k.entry_bytes / k.row_bytes,
                    k.row_bytes);
    same_bytes("state", found.state, wanted.state, k.state_bytes);
    same_bytes("tail", found.tail, wanted.tail, k.tail_bytes);

    const uint32_t *cut[] = { edges, mixed, sevens, whole, mixed };
    for (uint32_t i = 0; i < 5; i++) {
        struct memory other = compress_all(gpu, &k, &in, cut[i], i >= 3);
        same_bytes(i < 3 ? "entries of chunks" : "entries after a resume", other.entries,
                   found.entries, k.entry_bytes);
        same_bytes("tails of chunks", other.tail, found.tail, k.tail_bytes);
        if (i < 3) same_bytes("state of chunks", other.state, found.state, k.state_bytes);
        memory_release(&other);
    }
    memory_release(&wanted), memory_release(&found);
    free(in.value), free(in.gate), free(in.ape), free(in.norm);
    gpu->ops->close(gpu), cpu->ops->close(cpu);
}

static void entries_of_4(void **unused)
{
    (void)unused;
    check_kind(4, false);
}

static void entries_of_128(void **unused)
{
    (void)unused;
    check_kind(128, false);
}

static void index_keys(void **unused)
{
    (void)unused;
    check_kind(4, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_of_4),
        cmocka_unit_test(entries_of_128),
        cmocka_unit_test(index_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
