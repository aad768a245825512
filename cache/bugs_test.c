/* bugs_test.c - the mistakes that other engines' caches have made (docs/CACHE_INVARIANTS.md, B1 to
 * B20), each shown not to be ours, on the model of shadow.h: a step that sees a wrong byte ends the
 * process. Those which need the engine are in its own tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "cache/shadow.h"

enum { DEVICE_ONLY, WITH_DISK };

static char dir[64];

static struct shadow *make(uint32_t g_slots, uint32_t w_slots, uint32_t disk)
{
    struct shadow *shadow = malloc(sizeof *shadow);
    assert_non_null(shadow);
    static uint32_t made;  // a test that fails leaves its directory
    snprintf(dir, sizeof dir, "%s/fathom-bugs-%d-%u",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid(), made++);
    struct shadow_options options = { .seed = 5,
                                      .slots = { { g_slots, 40, disk }, { w_slots, 20, disk } },
                                      .nodes = 300,
                                      .ends_kept = 2,
                                      .w_pinned = 2,
                                      .dir = dir };
    shadow_init(shadow, &options);
    return shadow;
}

static void unmake(struct shadow *shadow)
{
    shadow_audit(shadow, NULL, 0, true);
    shadow_release(shadow);
    free(shadow);
}

/* A prompt of whole blocks, a way each, and `more` tokens. */
static struct shadow_seq *prompt(struct shadow *shadow, uint32_t tenant, const char *ways,
                                 uint32_t more)
{
    struct shadow_seq *seq = malloc(sizeof *seq);
    assert_non_null(seq);
    shadow_seq_init(shadow, seq, tenant, 0);
    for (; *ways; ways++) shadow_append(seq, (uint32_t)(*ways - '0'), KV_BLOCK_TOKENS);
    shadow_append(seq, 0, more);
    return seq;
}

/* The whole of a request: tokens that it did not have to compute. */
static uint32_t serve(struct shadow *shadow, struct shadow_seq *seq)
{
    shadow_start(shadow, seq);
    uint32_t from = seq->computed;
    assert_int_equal(shadow_run(shadow, seq), OK);
    shadow_stop(shadow, seq, true);
    return from;
}

static uint32_t serve_new(struct shadow *shadow, uint32_t tenant, const char *ways, uint32_t more)
{
    struct shadow_seq *seq = prompt(shadow, tenant, ways, more);
    uint32_t from = serve(shadow, seq);
    free(seq);
    return from;
}

static uint32_t match(struct shadow *shadow, const struct shadow_seq *seq,
                      struct prefix_ref path[SHADOW_BLOCKS])
{
    return prefix_tree_match(&shadow->tree, &seq->root, seq->token, seq->tokens, path);
}

/* What is known of a prompt rests on disk alone. */
static uint32_t go_down(struct shadow *shadow, const struct shadow_seq *seq)
{
    struct prefix_ref path[SHADOW_BLOCKS];
    uint32_t known = match(shadow, seq, path);
    for (int turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < known; i++)
            for (int object = 0; object < KV_OBJECTS; object++) {
                (void)!(turn ? tiers_spill(&shadow->tiers, path[i], object, false)
                             : tiers_save(&shadow->tiers, path[i], object));
                shadow_settle(shadow);
            }
    prefix_tree_flush(&shadow->tree, KV_DEVICE);
    prefix_tree_flush(&shadow->tree, KV_HOST);
    assert_int_equal(match(shadow, seq, path), known);
    return known;
}

static struct prefix_block look(struct shadow *shadow, struct prefix_ref ref)
{
    struct prefix_block block;
    assert_true(prefix_tree_look(&shadow->tree, ref, &block));
    return block;
}

/* Writes zeros over a part of a block's image in the store's files, wherever its head stands. */
static void damage(const struct prefix_key *key, enum kv_object object, uint32_t offset,
                   uint32_t bytes)
{
    static uint8_t page[RECORD_PAGE];
    uint32_t hit = 0;
    for (uint32_t n = 0;; n++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%c/%06u.seg", dir, object == KV_G ? 'g' : 'w', n);
        int fd = open(path, O_RDWR);
        if (fd < 0) break;
        for (off_t at = 0; pread(fd, page, sizeof page, at) == sizeof page; at += RECORD_PAGE) {
            const struct record_head *head = (const void *)page;
            if (!record_is_head(head) || memcmp(&head->id.key, key, sizeof *key) != 0) continue;
            memset(page + RECORD_HEAD + offset, 0, bytes);
            assert_int_equal(pwrite(fd, page, sizeof page, at), sizeof page);
            hit++;
        }
        close(fd);
    }
    assert_true(hit > 0);
}

static void prompt_whose_window_is_lost_replays_or_resumes_before_it(void **unused)  // B1
{
    (void)unused;
    for (int replay = 0; replay < 2; replay++) {
        struct shadow *shadow = make(60, 20, DEVICE_ONLY);
        struct prefix_ref path[SHADOW_BLOCKS];
        shadow->options.may_replay = replay;
        struct shadow_seq *seq = prompt(shadow, 0, "0000000", 1);
        serve(shadow, seq);
        assert_int_equal(match(shadow, seq, path), 7);
        prefix_tree_drop(&shadow->tree, path[6], KV_W, KV_DEVICE);
        uint32_t from = serve(shadow, seq);
        assert_int_equal(from, replay ? (7 - shadow->shape.layers) * KV_BLOCK_TOKENS : 0);
        assert_int_equal(shadow->replays, replay);
        assert_int_equal(serve(shadow, seq), 7 * KV_BLOCK_TOKENS);  // now it has one again
        free(seq);
        unmake(shadow);
    }
}

/* Where others branch off a second time, nobody computes the blocks before that place a third time. */
static void a_replay_leaves_a_window_where_its_prompt_branches_off(void **unused)
{
    (void)unused;
    struct shadow *shadow = make(60, 20, DEVICE_ONLY);
    uint32_t replay = shadow->shape.layers * KV_BLOCK_TOKENS;
    shadow->options.may_replay = true;
    assert_int_equal(serve_new(shadow, 0, "000000011", 1), 0);
    assert_int_equal(serve_new(shadow, 0, "000000022", 1), 7 * KV_BLOCK_TOKENS - replay);
    assert_int_equal(serve_new(shadow, 0, "000000033", 1), 7 * KV_BLOCK_TOKENS);
    assert_int_equal(shadow->replays, 1);
    unmake(shadow);
}

static void window_whose_tails_are_damaged_is_no_window(void **unused)  // B2
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct prefix_ref path[SHADOW_BLOCKS];
    struct shadow_seq *seq = prompt(shadow, 0, "0000", 60);
    serve(shadow, seq);
    go_down(shadow, seq);
    assert_int_equal(serve(shadow, seq), 4 * KV_BLOCK_TOKENS);  // whole: the tails came up with it
    go_down(shadow, seq);
    match(shadow, seq, path);
    struct prefix_key key = look(shadow, path[3]).key;
    damage(&key, KV_W, 4 * shadow->shape.tail[1], 4 * SHADOW_RING);
    assert_int_equal(serve(shadow, seq), 0);
    assert_true(shadow->misses > 0);
    free(seq);
    unmake(shadow);
}

static void block_whose_index_keys_are_damaged_is_no_block(void **unused)  // B3
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct prefix_ref path[SHADOW_BLOCKS];
    struct shadow_seq *half = prompt(shadow, 0, "00", 1), *seq = prompt(shadow, 0, "0000", 1);
    serve(shadow, half);
    serve(shadow, seq);
    assert_int_equal(go_down(shadow, seq), 4);
    match(shadow, seq, path);
    struct prefix_key key = look(shadow, path[2]).key;
    damage(&key, KV_G, 4 * shadow->shape.key[1], 4 * KV_BLOCK_TOKENS / 4);
    assert_int_equal(serve(shadow, seq),
                     2 * KV_BLOCK_TOKENS);  // cut at the damaged one, no further
    free(half);
    free(seq);
    unmake(shadow);
}

static void window_of_one_boundary_is_refused_for_another(void **unused)  // B4
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct prefix_ref path[SHADOW_BLOCKS];
    struct store_done done;
    struct shadow_seq *seq = prompt(shadow, 0, "0000", 1);
    serve(shadow, seq);
    go_down(shadow, seq);
    match(shadow, seq, path);
    struct prefix_block right = look(shadow, path[3]), wrong = look(shadow, path[2]);
    struct store_read read = { .key = wrong.key,
                               .object = KV_W,
                               .slot = store_first_slot(shadow->store, KV_W) +
                                       right.slot[KV_W][KV_DISK],
                               .memory = aligned_alloc(RECORD_PAGE, SHADOW_SLOT) };
    assert_int_equal(store_read(shadow->store, &read), OK);
    while (store_take(shadow->store, &done, 1) == 0) store_wait(shadow->store, 10);
    assert_int_equal(done.status, IO_FAILED);
    free(read.memory);
    free(seq);
    shadow_pump(shadow, 1);
    unmake(shadow);
}

static void drafts_leave_the_rows_that_are_still_read(void **unused)  // B5
{
    (void)unused;
    struct shadow *shadow = make(60, 20, DEVICE_ONLY);
    struct shadow_seq *seq = prompt(shadow, 0, "0000", 0);
    assert_true(SHADOW_DRAFTS + 7 <= SHADOW_RING);  // what a ring has to have room for
    shadow_start(shadow, seq);
    for (uint32_t t = 0; t < seq->tokens; t++)
        assert_int_equal(shadow_step(shadow, seq, 1, SHADOW_DRAFTS), OK);
    shadow_stop(shadow, seq, true);
    free(seq);
    unmake(shadow);
}

static void rejected_drafts_across_a_boundary_reach_no_sealed_block(void **unused)  // B6
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "00", 10);
    shadow_start(shadow, seq);
    assert_int_equal(shadow_step(shadow, seq, 126, 8), OK);
    assert_int_equal(seq->lease.sealed, 0);  // six of the eight lie past the boundary
    assert_int_equal(shadow_step(shadow, seq, 2, 8), OK);
    assert_int_equal(seq->lease.sealed, 1);
    assert_int_equal(shadow_step(shadow, seq, 127, 8), OK);
    assert_int_equal(seq->lease.sealed, 1);
    shadow_audit(shadow, seq, 1, true);  // every byte of what is sealed
    assert_int_equal(shadow_run(shadow, seq), OK);
    shadow_stop(shadow, seq, true);
    go_down(shadow, seq);
    assert_int_equal(serve(shadow, seq), 2 * KV_BLOCK_TOKENS);
    free(seq);
    unmake(shadow);
}

static void load_aborted_while_the_disk_reads_gives_every_slot_back_once(void **unused)  // B8
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "00000", 1);
    serve(shadow, seq);
    for (int purge = 0; purge < 2; purge++) {
        go_down(shadow, seq);
        shadow->fault.hold = true;
        shadow_begin(shadow, seq);
        assert_int_equal(seq->state, SEQ_LOADING);
        for (int i = 0; i < 5; i++) shadow_pump(shadow, SHADOW_OPERATIONS);
        assert_true(shadow->tiers.in_flight > 0);
        uint64_t pins = shadow->tree.pins;
        shadow_stop(shadow, seq, false);
        assert_true(shadow->tree.pins < pins && shadow->tree.pins > 0);
        if (purge) prefix_tree_purge(&shadow->tree, 0);
        shadow_settle(shadow);
        assert_int_equal(shadow->tree.pins, 0);
        shadow_audit(shadow, NULL, 0, true);
    }
    free(seq);
    unmake(shadow);
}

static void window_outlives_the_page_that_the_sequence_lets_go(void **unused)  // B9
{
    (void)unused;
    struct shadow *shadow = make(60, 3, DEVICE_ONLY);  // pages for one sequence at work
    struct shadow_seq *seq = prompt(shadow, 0, "0000", 1);
    struct prefix_ref path[SHADOW_BLOCKS];
    serve(shadow, seq);
    match(shadow, seq, path);
    assert_int_equal(look(shadow, path[3]).state[KV_W][KV_DEVICE], COPY_VALID);
    assert_int_equal(tiers_save(&shadow->tiers, path[3], KV_W), OK);
    shadow_settle(shadow);
    serve_new(shadow, 1, "1111", 1);  // wants all the pages
    assert_int_equal(look(shadow, path[3]).state[KV_W][KV_DEVICE], COPY_NONE);
    assert_int_equal(serve(shadow, seq), 4 * KV_BLOCK_TOKENS);
    free(seq);
    unmake(shadow);
}

static void pool_of_one_sequence_and_a_block_never_stalls(void **unused)  // B10
{
    (void)unused;
    struct shadow *shadow = make(9, 4, DEVICE_ONLY);
    for (int round = 0; round < 2000; round++) {
        char ways[9] = { 0 };
        for (int i = 0; i < 7; i++) ways[i] = (char)('0' + shadow_below(shadow, 3));
        prefix_tree_clock(&shadow->tree, (uint32_t)round);
        serve_new(shadow, 0, ways, 1 + shadow_below(shadow, 128));
        assert_int_equal(shadow->busy, 0);
    }
    unmake(shadow);
}

static void room_is_made_past_a_page_that_a_fork_still_holds(void **unused)  // B10, I20
{
    (void)unused;
    struct shadow *shadow = make(60, 4, DEVICE_ONLY);
    struct shadow_seq *seq = prompt(shadow, 0, "", 100), *fork = calloc(1, sizeof *fork);
    assert_non_null(fork);
    shadow_start(shadow, seq);
    assert_int_equal(shadow_run(shadow, seq), OK);
    shadow_append(seq, 0, 40);  // the answer crosses the boundary
    assert_int_equal(shadow_run(shadow, seq), OK);
    assert_int_equal(shadow_fork(shadow, seq, fork), OK);
    shadow_stop(shadow, seq, true);  // its last window is the tree's now, and the fork's page too
    prefix_tree_clock(&shadow->tree, 100);
    serve_new(shadow, 1, "1", 1);  // leaves a younger one
    assert_int_equal(shadow->pool[KV_W][KV_DEVICE].free_count, 1);
    serve_new(shadow, 2, "1", 1);  // wants two pages
    assert_int_equal(shadow->busy, 0);
    shadow_stop(shadow, fork, false);
    free(fork);
    free(seq);
    unmake(shadow);
}

static void load_goes_on_however_low_the_cap_of_its_owner(void **unused)  // B10, I20
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "00000", 1);
    serve(shadow, seq);
    go_down(shadow, seq);
    prefix_tree_quota(&shadow->tree, 0, (struct prefix_quota){ .weight = 1, .cap = 1 });
    shadow_begin(shadow, seq);
    for (int i = 0; i < 100 && seq->state == SEQ_LOADING; i++) {
        shadow_poll(shadow, seq);
        shadow_settle(shadow);
    }
    assert_int_equal(seq->state, SEQ_RUNNING);
    assert_int_equal(seq->computed, 5 * KV_BLOCK_TOKENS);
    assert_int_equal(prefix_tree_trim(&shadow->tree, KV_DEVICE, 99), 0);  // all of it is in use
    shadow_stop(shadow, seq, true);
    for (int tier = 0; tier < KV_TIERS; tier++) {
        prefix_tree_trim(&shadow->tree, tier, 99);
        assert_int_equal(prefix_tree_held(&shadow->tree, 0, tier), 0);
    }
    free(seq);
    unmake(shadow);
}

static void every_way_out_gives_back_every_pin(void **unused)  // B11
{
    (void)unused;
    struct shadow *shadow = make(20, 8, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "00000", 20), *child = malloc(sizeof *child);
    assert_non_null(child);
    serve(shadow, seq);
    for (int way = 0; way < 6; way++) {
        go_down(shadow, seq);
        shadow->copy_faults = way == 1 ? 400 : 0;
        shadow->fault.rate[FAULT_EIO] = way == 2 ? FAULT_ALWAYS / 3 : 0;
        shadow_start(shadow, seq);
        *child = (struct shadow_seq){ 0 };
        if (way == 3) assert_int_equal(shadow_fork(shadow, seq, child), OK);
        if (way == 4) shadow_purge(shadow, 0);
        if (way != 5) assert_int_equal(shadow_run(shadow, seq), OK);
        shadow_stop(shadow, seq, way < 3);
        shadow_stop(shadow, child, true);
        shadow->fault.rate[FAULT_EIO] = shadow->copy_faults = 0;
        shadow_settle(shadow);
        assert_int_equal(shadow->tree.pins, 0);
    }
    free(child);
    free(seq);
    unmake(shadow);
}

/* Device and host have room for some windows of the eight, the disk for none: churn in W costs no G,
 * and a turn finds the window of the one before. */
static void eight_conversations_in_turn_keep_their_hits(void **unused)  // B12
{
    enum { TALKS = 8, TURNS = 9 };
    (void)unused;
    struct shadow *shadow = make(140, 12, DEVICE_ONLY);
    struct shadow_seq *seq[TALKS];
    uint32_t wanted = 0, resumed = 0;
    for (uint32_t talk = 0; talk < TALKS; talk++) seq[talk] = prompt(shadow, talk % 3, "0", 0);
    for (uint32_t turn = 0; turn < TURNS; turn++)
        for (uint32_t talk = 0; talk < TALKS; talk++) {
            struct prefix_ref path[SHADOW_BLOCKS];
            prefix_tree_clock(&shadow->tree, (turn * TALKS + talk) * 3);
            shadow_append(seq[talk], talk / 3 + 1, 20 + 37 * talk % 100);
            uint32_t known = match(shadow, seq[talk], path);
            uint32_t from = serve(shadow, seq[talk]);
            if (!turn) continue;
            wanted += known * KV_BLOCK_TOKENS;
            resumed += from;
            known = match(shadow, seq[talk], path);
            if (known) (void)!tiers_save(&shadow->tiers, path[known - 1], KV_W);
            shadow_settle(shadow);
        }
    assert_true(wanted > 20000 && resumed * 100 >= wanted * 95);
    for (uint32_t talk = 0; talk < TALKS; talk++) free(seq[talk]);
    unmake(shadow);
}

static void new_weights_find_nothing_of_the_old_ones(void **unused)  // B13
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *old = prompt(shadow, 0, "0000", 1);
    serve(shadow, old);
    go_down(shadow, old);
    shadow_new_weights(shadow);
    for (int restart = 0; restart < 2; restart++) {
        struct shadow_seq *seq = prompt(shadow, 0, "0000", 1);
        struct prefix_ref path[SHADOW_BLOCKS];
        assert_int_equal(match(shadow, seq, path), 0);
        assert_int_equal(match(shadow, old, path), 4);
        free(seq);
        shadow_restart(shadow, SHADOW_CLEAN);
    }
    assert_int_equal(serve_new(shadow, 0, "0000", 1), 0);
    assert_int_equal(serve_new(shadow, 0, "0000", 1), 4 * KV_BLOCK_TOKENS);
    shadow_new_geometry(shadow);  // of another format: refused as a whole
    assert_int_equal(shadow->tree.live, 0);
    assert_int_equal(serve_new(shadow, 0, "0000", 1), 0);
    free(old);
    unmake(shadow);
}

static void keys_that_differ_in_one_bit_are_two_blocks(void **unused)  // B14
{
    (void)unused;
    struct shadow *shadow = make(60, 20, DEVICE_ONLY);
    struct prefix_key key = shadow_root(shadow, 0, 0), other;
    struct prefix_ref ref[2];
    for (uint32_t bit = 0; bit < 8 * SHA256_BYTES; bit++) {
        other = key;
        other.byte[bit / 8] ^= (uint8_t)(1u << bit % 8);
        for (int i = 0; i < 2; i++) {
            struct prefix_add add = { .before = PREFIX_ROOT, .key = i ? other : key };
            assert_int_equal(kv_pool_take(&shadow->pool[KV_G][KV_DEVICE], 1, &add.slot), OK);
            assert_int_equal(prefix_tree_add(&shadow->tree, &add, &ref[i], NULL), PREFIX_ADOPTED);
        }
        struct prefix_ref found = prefix_tree_find(&shadow->tree, PREFIX_ROOT, &other);
        assert_memory_equal(&found, &ref[1], sizeof found);
        prefix_tree_purge(&shadow->tree, 0);
        prefix_tree_reap(&shadow->tree, 10);
        found = prefix_tree_find(&shadow->tree, PREFIX_ROOT, &key);
        assert_true(prefix_is_none(found));
    }
    unmake(shadow);
}

static void poisoned_path_is_not_found_again_even_after_a_restart(void **unused)  // B15
{
    (void)unused;
    struct prefix_ref path[SHADOW_BLOCKS];
    for (int writing = 0; writing < 2; writing++) {
        struct shadow *shadow = make(60, 20, WITH_DISK);
        struct shadow_seq *seq = prompt(shadow, 0, "0000", 1);
        serve(shadow, seq);
        if (writing) {  // its way to the disk is not over yet
            match(shadow, seq, path);
            for (uint32_t i = 0; i < 4; i++) {
                assert_int_equal(tiers_save(&shadow->tiers, path[i], KV_G), OK);
                shadow_settle(shadow);
                shadow->fault.hold = i == 3;
                assert_int_equal(tiers_spill(&shadow->tiers, path[i], KV_G, false), OK);
                if (i < 3) shadow_settle(shadow);
            }
        } else {
            go_down(shadow, seq);
        }
        match(shadow, seq, path);
        shadow_poison(shadow, path[3], KV_W);
        shadow_poison(shadow, path[3], KV_G);
        assert_int_equal(match(shadow, seq, path), 3);
        shadow_settle(shadow);
        shadow_restart(shadow, SHADOW_CLEAN);
        if (match(shadow, seq, path) == 4) {  // a table may name it still; reading it is a miss
            uint64_t hits = shadow->hits;
            assert_int_equal(tiers_fetch(&shadow->tiers, path[3], KV_G), OK);
            shadow_settle(shadow);
            assert_int_equal(shadow->hits, hits);
        }
        assert_int_equal(match(shadow, seq, path), 3);
        assert_true(serve(shadow, seq) < 4 * KV_BLOCK_TOKENS);
        assert_int_equal(serve(shadow, seq), 4 * KV_BLOCK_TOKENS);  // computed cold, it is as good
        free(seq);
        unmake(shadow);
    }
}

static void prompt_of_whole_blocks_leaves_a_token_to_compute(void **unused)  // B16
{
    (void)unused;
    struct shadow *shadow = make(60, 30, DEVICE_ONLY);
    static const char *const WAYS[] = { "", "0", "00", "000", "0000" };
    for (uint32_t blocks = 1; blocks < 5; blocks++) {
        serve_new(shadow, 0, WAYS[blocks], 0);
        assert_int_equal(serve_new(shadow, 0, WAYS[blocks], 1), blocks * KV_BLOCK_TOKENS);
        assert_int_equal(serve_new(shadow, 0, WAYS[blocks], 0), (blocks - 1) * KV_BLOCK_TOKENS);
        struct shadow_seq *seq = prompt(shadow, 0, WAYS[blocks], 0);
        shadow_begin(shadow, seq);
        assert_true(seq->matched == blocks - 1 && seq->computed < seq->tokens);
        shadow_stop(shadow, seq, false);
        free(seq);
    }
    unmake(shadow);
}

static void window_brings_the_rows_of_every_layer_with_it(void **unused)  // B17
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "000", 1);
    serve(shadow, seq);
    go_down(shadow, seq);
    shadow_start(shadow, seq);
    assert_int_equal(seq->computed, 3 * KV_BLOCK_TOKENS);
    const uint32_t *w = shadow_device_image(shadow, KV_W, seq->lease.w_page[0]);
    uint32_t last = shadow->shape.layers - 1;  // it has no G: its window is all there is of it
    for (uint32_t row = 0; row < KV_BLOCK_TOKENS; row++)
        assert_int_equal(w[last * KV_BLOCK_TOKENS + row],
                         shadow_word(seq->past[2 * KV_BLOCK_TOKENS + row + 1], last, PLANE_ROW));
    shadow_stop(shadow, seq, false);
    free(seq);
    unmake(shadow);
}

static void load_takes_one_window_whatever_the_prefix(void **unused)  // B18
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "0000000000", 1);
    serve(shadow, seq);
    go_down(shadow, seq);
    uint32_t pages = shadow->pool[KV_W][KV_DEVICE].free_count;
    uint32_t blocks = shadow->pool[KV_G][KV_DEVICE].free_count;
    shadow_begin(shadow, seq);
    assert_int_equal(pages - shadow->pool[KV_W][KV_DEVICE].free_count, 1);
    assert_int_equal(blocks - shadow->pool[KV_G][KV_DEVICE].free_count, 10);
    shadow_stop(shadow, seq, false);
    free(seq);
    unmake(shadow);
}

/* The model's freed slots are spoilt, so whoever read past its own length would see it. */
static void slot_of_another_owner_shows_nothing_of_it(void **unused)  // B19
{
    (void)unused;
    struct shadow *shadow = make(6, 3, DEVICE_ONLY);
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t tenant = i % 3;
        struct shadow_seq *seq = prompt(shadow, tenant, i % 2 ? "101" : "010", i % 128);
        assert_int_equal(serve(shadow, seq), 0);
        free(seq);
        prefix_tree_purge(&shadow->tree, tenant);
        while (prefix_tree_reap(&shadow->tree, 10))
            ;
        assert_int_equal(shadow->pool[KV_G][KV_DEVICE].free_count, 6);
    }
    unmake(shadow);
}

static void lookup_asks_no_device_and_a_load_holds_nobody_up(void **unused)  // B20
{
    (void)unused;
    struct shadow *shadow = make(60, 20, WITH_DISK);
    struct shadow_seq *seq = prompt(shadow, 0, "00000", 1);
    struct prefix_ref path[SHADOW_BLOCKS];
    serve(shadow, seq);
    go_down(shadow, seq);
    uint64_t asked = shadow->sim.submitted;
    assert_int_equal(match(shadow, seq, path), 5);
    assert_int_equal(shadow->sim.submitted, asked);
    shadow->fault.hold = true;  // the device answers nobody
    shadow_begin(shadow, seq);
    assert_int_equal(seq->state, SEQ_LOADING);
    assert_int_equal(serve_new(shadow, 1, "1111", 50), 0);
    assert_int_equal(seq->state, SEQ_LOADING);
    shadow->fault.hold = false;
    while (seq->state == SEQ_LOADING) {
        shadow_pump(shadow, SHADOW_OPERATIONS);
        shadow_poll(shadow, seq);
    }
    assert_int_equal(seq->computed, 5 * KV_BLOCK_TOKENS);
    shadow_stop(shadow, seq, false);
    free(seq);
    unmake(shadow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_whose_window_is_lost_replays_or_resumes_before_it),
        cmocka_unit_test(a_replay_leaves_a_window_where_its_prompt_branches_off),
        cmocka_unit_test(window_whose_tails_are_damaged_is_no_window),
        cmocka_unit_test(block_whose_index_keys_are_damaged_is_no_block),
        cmocka_unit_test(window_of_one_boundary_is_refused_for_another),
        cmocka_unit_test(drafts_leave_the_rows_that_are_still_read),
        cmocka_unit_test(rejected_drafts_across_a_boundary_reach_no_sealed_block),
        cmocka_unit_test(load_aborted_while_the_disk_reads_gives_every_slot_back_once),
        cmocka_unit_test(window_outlives_the_page_that_the_sequence_lets_go),
        cmocka_unit_test(pool_of_one_sequence_and_a_block_never_stalls),
        cmocka_unit_test(room_is_made_past_a_page_that_a_fork_still_holds),
        cmocka_unit_test(load_goes_on_however_low_the_cap_of_its_owner),
        cmocka_unit_test(every_way_out_gives_back_every_pin),
        cmocka_unit_test(eight_conversations_in_turn_keep_their_hits),
        cmocka_unit_test(new_weights_find_nothing_of_the_old_ones),
        cmocka_unit_test(keys_that_differ_in_one_bit_are_two_blocks),
        cmocka_unit_test(poisoned_path_is_not_found_again_even_after_a_restart),
        cmocka_unit_test(prompt_of_whole_blocks_leaves_a_token_to_compute),
        cmocka_unit_test(window_brings_the_rows_of_every_layer_with_it),
        cmocka_unit_test(load_takes_one_window_whatever_the_prefix),
        cmocka_unit_test(slot_of_another_owner_shows_nothing_of_it),
        cmocka_unit_test(lookup_asks_no_device_and_a_load_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
