/* model_resume_test.c - a sequence that starts from images of blocks, from an exact replay, or as a
 * fork gives the same bits as one that was computed from its first token.
 *
 * On the CPU and, where there is one, on the GPU, or on FATHOM_BACKEND alone. KV memory that a sequence was not given is poison
 * throughout, its private state too; images come and go by the device's lanes, to other numbers than
 * they were made at. Weights are random ones of a small shape with every kind of layer, or of
 * FATHOM_RESUME_MODEL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "cache/kv_pool.h"
#include "config/hash.h"
#include "engine/batch.h"
#include "engine/model.h"
#include "kernels/testing.h"

enum {
    BLOCKS = 9,
    TOKENS = (BLOCKS - 1) * KV_BLOCK_TOKENS + 77,
    NUMBERS = 4 * BLOCKS,  // G blocks, and W pages
    STATES = 5,
    STEP_TOKENS = 2 * TOKENS,
    TAIL = 9,  // tokens decoded one by one
};

/* What a sequence holds: numbers of the G block and W page of each 128 tokens, and of its state. */
struct place {
    uint32_t g[BLOCKS], w[BLOCKS], state;
};

struct image {
    char *g, *w;  // [BLOCKS], one after another; memory of the host that lanes reach
};

struct lab {
    struct shape shape;
    struct weights weights;
    struct dev *dev;
    struct model model;
    struct batch_maker maker;
    char *poison_g, *poison_w, *poison_state;  // of all numbers
    uint32_t number[3][NUMBERS];               // G, W, states, in no order
    uint32_t given;                            // places given since the last poisoning
    float *logits;                             // [STEP_TOKENS, vocab]
    uint32_t token[TOKENS];
    uint64_t cold[TOKENS];  // hash of each position's logits
    struct image image;     // as the cold run left them
};

static uint64_t seed = 11;

static uint32_t below(uint32_t end)
{
    return test_random(&seed) % end;
}

static void expect(enum status status, const struct err *err)
{
    if (status != OK) print_error("%s\n", err->text);
    assert_int_equal(status, OK);
}

/* ---- memory -------------------------------------------------------------------------------- */

static void finish(struct lab *lab)
{
    struct err err = { "" };
    expect(lab->dev->ops->finish(lab->dev, &err), &err);
}

static char *host_take(struct lab *lab, size_t bytes)
{
    char *data = lab->dev->ops->host_alloc(lab->dev, bytes);
    assert_non_null(data);
    return data;
}

static void spoil(char *block, size_t at, size_t bytes)
{
    memset(block + at, 0xff, bytes);
}

/* NaNs in every plane of one number; padding between planes stays zero, as a pool keeps it. */
static void spoil_number(struct lab *lab, uint32_t i)
{
    const struct kv_layout *l = &lab->model.layout;
    char *g = lab->poison_g + i * l->g_bytes, *w = lab->poison_w + i * l->w_bytes;
    size_t entry = lab->model.entry_bytes, key = lab->model.index_bytes;
    for (uint32_t k = 0; k < l->layers + l->drafts; k++) {
        const struct kv_layer *layer = &l->layer[k];
        spoil(w, layer->window, KV_BLOCK_TOKENS * entry);
        if (layer->ratio) spoil(g, layer->entries, KV_BLOCK_TOKENS / layer->ratio * entry);
        if (layer->ratio != SHAPE_CSA_RATIO) continue;
        spoil(g, layer->keys, KV_BLOCK_TOKENS / layer->ratio * key);
        spoil(w, layer->tail, 4 * 2 * sizeof(float) * lab->shape.head_dim);
        spoil(w, layer->key_tail, 4 * 2 * sizeof(float) * lab->shape.index_dim);
    }
}

static void make_poison(struct lab *lab)
{
    lab->poison_g = host_take(lab, lab->model.g_bytes);
    lab->poison_w = host_take(lab, lab->model.w_bytes);
    lab->poison_state = host_take(lab, lab->model.state_bytes);
    for (uint32_t i = 0; i < NUMBERS; i++) spoil_number(lab, i);
    spoil(lab->poison_state, 0, lab->model.state_bytes);
}

static void mix(uint32_t *number, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = below(i + 1);
        number[i] = number[at];
        number[at] = i;
    }
}

/* Nobody holds anything, and nothing can be read. */
static void begin(struct lab *lab)
{
    const struct model *m = &lab->model;
    lab->dev->ops->copy_in(lab->dev, m->g, lab->poison_g, m->g_bytes);
    lab->dev->ops->copy_in(lab->dev, m->w, lab->poison_w, m->w_bytes);
    lab->dev->ops->copy_in(lab->dev, m->state, lab->poison_state, m->state_bytes);
    mix(lab->number[0], NUMBERS);
    mix(lab->number[1], NUMBERS);
    mix(lab->number[2], STATES);
    lab->given = 0;
}

static struct place place_new(struct lab *lab)
{
    struct place place = { .state = lab->number[2][lab->given] };
    memcpy(place.g, lab->number[0] + lab->given * BLOCKS, sizeof place.g);
    memcpy(place.w, lab->number[1] + lab->given * BLOCKS, sizeof place.w);
    must((lab->given + 1) * BLOCKS <= NUMBERS && lab->given < STATES);
    lab->given++;
    return place;
}

static char *g_at(const struct lab *lab, uint32_t number)
{
    return lab->model.g + number * lab->model.layout.g_bytes;
}

static char *w_at(const struct lab *lab, uint32_t number)
{
    return lab->model.w + number * lab->model.layout.w_bytes;
}

static char *state_at(const struct lab *lab, uint32_t number)
{
    return lab->model.state + number * lab->model.layout.state_bytes;
}

static void await(struct lab *lab, enum dev_lane lane)
{
    struct err err = { "" };
    uint64_t place = lab->dev->ops->lane_mark(lab->dev, lane);
    while (!lab->dev->ops->lane_done(lab->dev, lane, place))
        expect(lab->dev->ops->wait(lab->dev, 0, &err), &err);
}

static struct image image_take(struct lab *lab)
{
    return (struct image){ host_take(lab, BLOCKS * lab->model.layout.g_bytes),
                           host_take(lab, BLOCKS * lab->model.layout.w_bytes) };
}

static void image_release(struct lab *lab, struct image *image)
{
    lab->dev->ops->host_free(lab->dev, image->g, BLOCKS * lab->model.layout.g_bytes);
    lab->dev->ops->host_free(lab->dev, image->w, BLOCKS * lab->model.layout.w_bytes);
}

/* The images of blocks [from, to), right behind the steps that made them. */
static void image_read(struct lab *lab, const struct place *place, uint32_t from, uint32_t to,
                       const struct image *image)
{
    const struct kv_layout *l = &lab->model.layout;
    const struct ops *ops = lab->dev->ops;
    for (uint32_t i = from; i < to; i++) {
        ops->lane_out(lab->dev, image->g + i * l->g_bytes, g_at(lab, place->g[i]), l->g_bytes);
        ops->lane_out(lab->dev, image->w + i * l->w_image_bytes, w_at(lab, place->w[i]),
                      l->w_image_bytes);
    }
    await(lab, LANE_OUT);
}

static void g_restore(struct lab *lab, const struct place *place, uint32_t blocks)
{
    size_t bytes = lab->model.layout.g_bytes;
    for (uint32_t i = 0; i < blocks; i++)
        lab->dev->ops->lane_in(lab->dev, g_at(lab, place->g[i]), lab->image.g + i * bytes, bytes);
    await(lab, LANE_IN);
}

/* The page that ends at a boundary, in blocks. */
static void w_restore(struct lab *lab, const struct place *place, uint32_t boundary)
{
    size_t bytes = lab->model.layout.w_image_bytes;
    lab->dev->ops->lane_in(lab->dev, w_at(lab, place->w[boundary - 1]),
                           lab->image.w + (boundary - 1) * bytes, bytes);
    await(lab, LANE_IN);
}

static void w_clear(struct lab *lab, const struct place *place, uint32_t boundary)
{
    size_t bytes = lab->model.layout.w_image_bytes;
    char *zeros = host_take(lab, bytes);
    lab->dev->ops->lane_in(lab->dev, w_at(lab, place->w[boundary - 1]), zeros, bytes);
    await(lab, LANE_IN);
    lab->dev->ops->host_free(lab->dev, zeros, bytes);
}

/* ---- running ------------------------------------------------------------------------------- */

/* Tokens [from, to) of a sequence. */
struct share {
    const struct place *place;
    const uint32_t *token;
    uint32_t from, to, g_from;
    uint64_t *hash;  // [TOKENS], by position
};

static void step(struct lab *lab, const struct share *share, uint32_t count)
{
    struct batch_maker *maker = &lab->maker;
    struct model *m = &lab->model;
    uint32_t vocab = lab->shape.vocab, row = 0;
    batch_clear(maker);
    for (uint32_t i = 0; i < count; i++) {
        const struct share *s = &share[i];
        uint32_t end = (s->to - 1) / KV_BLOCK_TOKENS + 1;
        uint32_t first = s->from < KV_BLOCK_TOKENS ? 0 : s->from / KV_BLOCK_TOKENS - 1;
        batch_add(maker,
                  &(struct batch_seq){ .g_block = s->place->g,
                                       .g_blocks = end,
                                       .w_page = s->place->w + first,
                                       .w_pages = end - first,
                                       .w_first = first,
                                       .state = s->place->state,
                                       .g_from = s->g_from },
                  s->token + s->from, s->from, s->to - s->from);
        for (uint32_t t = s->from; t < s->to; t++) batch_want(maker, row++);
    }
    batch_upload(maker);
    model_forward(m, &maker->batch);
    model_logits(m, maker->device_row, row);
    lab->dev->ops->copy_out(lab->dev, lab->logits, m->logits.data,
                            (size_t)row * vocab * sizeof *lab->logits);
    finish(lab);
    row = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t t = share[i].from; t < share[i].to; t++, row++)
            share[i].hash[t] = hash64(lab->logits + (size_t)row * vocab, vocab * 4, 0);
}

/* Like a prefill in random chunks, and the last TAIL tokens one by one. */
static void run(struct lab *lab, const struct share *whole)
{
    struct share part = *whole;
    while (part.from < whole->to) {
        uint32_t left = whole->to - part.from, chunk = 1 + below(300);
        if (left <= TAIL) chunk = 1;
        else if (chunk > left - TAIL) chunk = left - TAIL;
        part.to = part.from + chunk;
        step(lab, &part, 1);
        part.from = part.to;
    }
}

static bool same(const uint64_t *found, const uint64_t *wanted, uint32_t from, uint32_t to)
{
    return memcmp(found + from, wanted + from, (to - from) * sizeof *found) == 0;
}

static void expect_same(const char *what, const uint64_t *found, const uint64_t *wanted,
                        uint32_t from, uint32_t to)
{
    for (uint32_t t = from; t < to; t++)
        if (found[t] != wanted[t])
            test_fail("%s: other logits at position %u of [%u, %u)\n", what, t, from, to);
}

/* Blocks [g_from, to) and the pages of [w_from, to) are the cold run's, byte for byte. */
static void expect_images(struct lab *lab, const struct place *place, uint32_t g_from,
                          uint32_t w_from, uint32_t to)
{
    const struct kv_layout *l = &lab->model.layout;
    struct image image = image_take(lab);
    uint32_t from = g_from < w_from ? g_from : w_from;
    image_read(lab, place, from, to, &image);
    for (uint32_t i = from; i < to; i++) {
        size_t g = i * l->g_bytes, w = i * l->w_image_bytes;
        if (i >= g_from && memcmp(image.g + g, lab->image.g + g, l->g_bytes) != 0)
            test_fail("block %u: other bytes\n", i);
        if (i >= w_from && memcmp(image.w + w, lab->image.w + w, l->w_image_bytes) != 0)
            test_fail("page %u: other bytes\n", i);
    }
    image_release(lab, &image);
}

/* ---- the lab ------------------------------------------------------------------------------- */

static void open_device(struct lab *lab, const char *backend, enum numerics numerics)
{
    struct err err = { "" };
    struct dev_options options = { .numerics = numerics };
    const char *only = getenv("FATHOM_BACKEND");
    if (only && strcmp(only, backend) != 0) skip();
    if (backend_open(backend, &options, &lab->dev, &err) == OK) return;
    assert_string_equal(backend, "cuda");
    print_message("skipped, no GPU: %s\n", err.text);
    skip();
}

static void cold_run(struct lab *lab)
{
    begin(lab);
    struct place place = place_new(lab);
    for (uint32_t t = 0; t < TOKENS; t++) lab->token[t] = below(lab->shape.vocab);
    step(lab, &(struct share){ &place, lab->token, 0, TOKENS, 0, lab->cold }, 1);
    image_read(lab, &place, 0, BLOCKS - 1, &lab->image);
}

static struct lab *open_lab(const char *backend, enum numerics numerics)
{
    static struct lab lab;
    struct err err = { "" };
    const char *dir = getenv("FATHOM_RESUME_MODEL");
    lab = (struct lab){ 0 };
    open_device(&lab, backend, numerics);
    expect(shape_read(dir ? dir : "engine/testdata/small", &lab.shape, &err), &err);
    struct weights_options weights = { .seed = 5, .shape = &lab.shape, .dev = lab.dev };
    expect(weights_random(&weights, &lab.weights, &err), &err);
    struct model_options model = { .shape = &lab.shape,
                                   .weights = &lab.weights,
                                   .dev = lab.dev,
                                   .most_tokens = STEP_TOKENS,
                                   .most_rows = STEP_TOKENS };
    expect(model_open(&model, &lab.model, &err), &err);
    expect(model_take_kv(&lab.model, &(struct model_kv){ NUMBERS, NUMBERS, STATES }, &err), &err);
    struct batch_limits limits = { STEP_TOKENS, 2, BLOCKS, STEP_TOKENS };
    expect(batch_init(&lab.maker, lab.dev, &limits), &err);
    lab.logits = malloc((size_t)STEP_TOKENS * lab.shape.vocab * sizeof *lab.logits);
    assert_non_null(lab.logits);
    make_poison(&lab);
    lab.image = image_take(&lab);
    cold_run(&lab);
    return &lab;
}

static void close_lab(struct lab *lab)
{
    const struct ops *ops = lab->dev->ops;
    ops->host_free(lab->dev, lab->poison_g, lab->model.g_bytes);
    ops->host_free(lab->dev, lab->poison_w, lab->model.w_bytes);
    ops->host_free(lab->dev, lab->poison_state, lab->model.state_bytes);
    image_release(lab, &lab->image);
    free(lab->logits);
    batch_release(&lab->maker);
    model_close(&lab->model);
    weights_close(&lab->weights, lab->dev);
    ops->close(lab->dev);
}

/* ---- restore ------------------------------------------------------------------------------- */

/* Where a prompt ends: around every kind of edge. */
static const uint32_t prompt[] = { 127, 128, 129, 255, 256, 257, 383, 384, 385, 511, 512, 513 };

enum { PROMPTS = sizeof prompt / sizeof *prompt };

/* W of boundary c, G of [0, d): tokens from c on are computed, entries before d stand. */
static void restore(struct lab *lab, uint32_t c, uint32_t d, uint32_t to)
{
    uint64_t hash[TOKENS];
    begin(lab);
    struct place place = place_new(lab);
    g_restore(lab, &place, d);
    if (c) w_restore(lab, &place, c);
    uint32_t from = c * KV_BLOCK_TOKENS;
    run(lab, &(struct share){ &place, lab->token, from, to, d * KV_BLOCK_TOKENS, hash });
    expect_same("restored", hash, lab->cold, from, to);
    expect_images(lab, &place, 0, c ? c - 1 : 0, to / KV_BLOCK_TOKENS);
}

static void restore_everywhere(const char *backend, enum numerics numerics)
{
    struct lab *lab = open_lab(backend, numerics);
    for (uint32_t c = 1; c < BLOCKS; c++) {
        uint32_t to = c * KV_BLOCK_TOKENS + 1 + below(300);
        restore(lab, c, c, to < TOKENS ? to : TOKENS);
        restore(lab, c, c + below(BLOCKS - c), to < TOKENS ? to : TOKENS);
    }
    restore(lab, 0, BLOCKS - 1, TOKENS);
    for (uint32_t i = 0; i < PROMPTS; i++) {
        uint32_t c = (prompt[i] - 1) / KV_BLOCK_TOKENS;
        restore(lab, c, c, prompt[i] + TAIL);
    }
    close_lab(lab);
}

static void a_restored_prefix_gives_the_cold_bits(void **state)
{
    restore_everywhere(*state, NUMERICS_OFFICIAL);
}

static void a_restored_prefix_gives_the_exact_cold_bits(void **state)
{
    restore_everywhere(*state, NUMERICS_EXACT);
}

/* ---- exact replay -------------------------------------------------------------------------- */

/* Tokens from block r on, with nothing in the window before them; entries before block d stand. */
static void replay(struct lab *lab, uint32_t r, uint32_t d, uint32_t to, uint64_t *hash)
{
    begin(lab);
    struct place place = place_new(lab);
    g_restore(lab, &place, d);
    if (r) w_clear(lab, &place, r);
    run(lab,
        &(struct share){ &place, lab->token, r * KV_BLOCK_TOKENS, to, d * KV_BLOCK_TOKENS, hash });
    expect_images(lab, &place, 0, BLOCKS, d);  // G is what it was
    if (d - r >= lab->shape.layers || r == 0)
        expect_images(lab, &place, 0, d - 1, to / KV_BLOCK_TOKENS);
}

static void an_exact_replay_gives_the_cold_bits(void **state)
{
    struct lab *lab = open_lab(*state, NUMERICS_OFFICIAL);
    uint32_t layers = lab->shape.layers;
    uint64_t hash[TOKENS];
    must(layers + 1 < BLOCKS);
    for (uint32_t d = 1; d < BLOCKS; d++) {
        uint32_t at = d * KV_BLOCK_TOKENS;
        replay(lab, d < layers ? 0 : d - layers, d, TOKENS, hash);
        expect_same("replayed", hash, lab->cold, at, TOKENS);
    }
    /* That the window counts: without the replay the bits are others. */
    replay(lab, 6, 6, 6 * KV_BLOCK_TOKENS + TAIL, hash);
    assert_false(same(hash, lab->cold, 6 * KV_BLOCK_TOKENS, 6 * KV_BLOCK_TOKENS + TAIL));
    close_lab(lab);
}

/* ---- forks --------------------------------------------------------------------------------- */

/* Whole blocks are shared; what is under way is copied, on the device. */
static struct place fork_place(struct lab *lab, const struct place *parent, uint32_t tokens)
{
    const struct kv_layout *l = &lab->model.layout;
    const struct ops *ops = lab->dev->ops;
    uint32_t whole = tokens / KV_BLOCK_TOKENS;
    struct place child = place_new(lab);
    memcpy(child.g, parent->g, whole * sizeof *child.g);
    memcpy(child.w, parent->w, whole * sizeof *child.w);
    if (tokens % KV_BLOCK_TOKENS) {
        ops->copy_across(lab->dev, g_at(lab, child.g[whole]), g_at(lab, parent->g[whole]),
                         l->g_bytes);
        ops->copy_across(lab->dev, w_at(lab, child.w[whole]), w_at(lab, parent->w[whole]),
                         l->w_bytes);
    }
    ops->copy_across(lab->dev, state_at(lab, child.state), state_at(lab, parent->state),
                     l->state_bytes);
    return child;
}

static void forks_give_the_cold_bits(void **state)
{
    struct lab *lab = open_lab(*state, NUMERICS_OFFICIAL);
    static uint32_t other[TOKENS];
    uint64_t parents[TOKENS], childs[TOKENS], wanted[TOKENS];
    for (uint32_t i = 0; i < PROMPTS; i++) {
        uint32_t end = prompt[i] + 140;
        memcpy(other, lab->token, prompt[i] * sizeof *other);
        for (uint32_t t = prompt[i]; t < end; t++) other[t] = below(lab->shape.vocab);
        begin(lab);
        struct place alone = place_new(lab), parent = place_new(lab);
        step(lab, &(struct share){ &alone, other, 0, end, 0, wanted }, 1);
        run(lab, &(struct share){ &parent, lab->token, 0, prompt[i], 0, parents });
        struct place child = fork_place(lab, &parent, prompt[i]);
        for (uint32_t t = prompt[i]; t < end;) {
            uint32_t to = t + 1 + (t % 3 ? 0 : below(end - t < 30 ? end - t : 30));
            struct share share[] = { { &child, other, t, to, 0, childs },
                                     { &parent, lab->token, t, to, 0, parents } };
            step(lab, share, 2);
            t = to;
        }
        expect_same("parent", parents, lab->cold, 0, end);
        expect_same("child", childs, wanted, prompt[i], end);
        expect_images(lab, &parent, 0, 0, end / KV_BLOCK_TOKENS);
    }
    close_lab(lab);
}

/* ---- what is stored ------------------------------------------------------------------------ */

/* Bytes of another version would be read as this one's by a daemon that finds its cache again. */
static void stored_bytes_are_those_that_their_numerics_version_names(void **state)
{
    static const struct {
        const char *model;
        uint64_t digest;
    } known[] = {
        { "engine/testdata/small", 0xe8747325e90a90b7 },
        { "config/models/flash-4-layers", 0x2f1b7ff42f97c5e5 },
    };
    const char *model = getenv("FATHOM_RESUME_MODEL");
    if (!model) model = known[0].model;
    seed = 11;
    struct lab *lab = open_lab(*state, NUMERICS_OFFICIAL);
    const struct kv_layout *l = &lab->model.layout;
    uint64_t digest = hash64(lab->image.g, (BLOCKS - 1) * l->g_bytes, 0);
    digest = hash64(lab->image.w, (BLOCKS - 1) * l->w_image_bytes, digest);
    close_lab(lab);
    print_message("%s: 0x%016llx\n", model, (unsigned long long)digest);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].model, model) == 0 && known[i].digest != digest)
            test_fail("the kernels store other bytes than before: raise cuda's version in "
                      "cache_identity.c, and note this digest here\n");
}

#define ON(name, backend) cmocka_unit_test_prestate(name, (char[]){ backend })

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(a_restored_prefix_gives_the_cold_bits, "cpu"),
        ON(a_restored_prefix_gives_the_exact_cold_bits, "cpu"),
        ON(an_exact_replay_gives_the_cold_bits, "cpu"),
        ON(forks_give_the_cold_bits, "cpu"),
        ON(a_restored_prefix_gives_the_cold_bits, "cuda"),
        ON(an_exact_replay_gives_the_cold_bits, "cuda"),
        ON(forks_give_the_cold_bits, "cuda"),
        ON(stored_bytes_are_those_that_their_numerics_version_names, "cuda"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
