/* shadow_walk_test.c - the whole cache at random: tree, leases, planner, tiers and a store on a bad
 * disk, under sequences whose every byte is known (shadow.h).
 *
 *   FATHOM_WALK=10000000   operations in all (300,000; fewer under sanitizers)
 *   FATHOM_WALK_SEED=7     the first seed; each has 1,500 operations
 *   FATHOM_WALK_ONLY=3,17  of that one seed only these operations, told one by one
 *
 * A walk runs in a child. When one ends badly, the operations that are not needed for that are left
 * out, half of them at a time, and what remains is printed: every operation draws from its own
 * number, so that leaving one out changes no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <ftw.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cache/scarce.h"
#include "cache/shadow.h"
#include "cache/spill.h"

enum { STEPS = 1500, SEQS = 7, TRIES = 300, DEEP_EVERY = 40, PATIENCE_S = 60, ROUNDS = 60 };

struct walk {
    struct shadow shadow;
    struct shadow_seq seq[SEQS];
    uint64_t seed;
    uint64_t trimmed;  // copies
    bool lossless;     // large tiers and a good disk: all that was sealed stays
};

/* What a child leaves behind. */
struct told {
    uint32_t step;
    uint64_t computed, resumed, replays, restores, forks, found, busy, landed, failed, hits, misses;
    uint64_t forwarded, lost, trimmed;
};

static uint32_t below(struct walk *walk, uint32_t n)
{
    return shadow_below(&walk->shadow, n);
}

static struct shadow_seq *any_seq(struct walk *walk, enum shadow_state state)
{
    uint32_t at = below(walk, SEQS);
    for (uint32_t i = 0; i < SEQS; i++, at = (at + 1) % SEQS)
        if (walk->seq[at].state == state) return &walk->seq[at];
    return NULL;
}

/* ---- operations ----------------------------------------------------------------------------- */

/* Mostly way 0, so that prompts share; lengths like to lie about the ends of blocks. */
static void some_tokens(struct walk *walk, struct shadow_seq *seq)
{
    static const uint32_t EDGE[] = { 1, 127, 128, 129, 255, 256, 257 };
    uint32_t most = walk->lossless ? 5 * KV_BLOCK_TOKENS : SHADOW_TOKENS - 300;
    uint32_t tokens = 1 + below(walk, most);
    if (below(walk, 3) == 0) tokens = EDGE[below(walk, 7)];
    else if (below(walk, 2)) tokens = tokens / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS + below(walk, 3);
    if (below(walk, 4) == 0 && tokens > 1) tokens--;
    if (tokens == 0) tokens = 1;
    while (seq->tokens < tokens) {
        uint32_t way = below(walk, 3) ? 0 : below(walk, walk->lossless ? 2 : SHADOW_WAYS);
        uint32_t left = tokens - seq->tokens;
        shadow_append(seq, way, left < KV_BLOCK_TOKENS ? left : KV_BLOCK_TOKENS);
    }
}

static void walk_begin(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_UNUSED);
    if (!seq) return;
    shadow_seq_init(&walk->shadow, seq, below(walk, walk->lossless ? 1 : SHADOW_TENANTS),
                    below(walk, 8) == 0);
    some_tokens(walk, seq);
    seq->store = walk->lossless || below(walk, 10) > 0;
    seq->goal = seq->tokens + below(walk, 200);
    if (seq->goal > SHADOW_TOKENS - SHADOW_DRAFTS) seq->goal = SHADOW_TOKENS - SHADOW_DRAFTS;
    if (below(walk, 4) == 0) seq->pinned_end = below(walk, seq->tokens + 1);
    shadow_begin(&walk->shadow, seq);
}

static void walk_poll(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_LOADING);
    if (seq) shadow_poll(&walk->shadow, seq);
}

static void preempt(struct walk *walk, struct shadow_seq *seq)
{
    shadow_stop(&walk->shadow, seq, false);
    shadow_begin(&walk->shadow, seq);
}

/* A chunk of the prompt, which ends on a block, or a token or several of the answer. */
static void go_on(struct walk *walk, struct shadow_seq *seq, uint32_t drafts)
{
    if (seq->computed == seq->tokens) {
        if (seq->tokens >= seq->goal) {
            shadow_stop(&walk->shadow, seq, true);
            return;
        }
        shadow_append(seq, below(walk, 4) ? 0 : 1, 1 + below(walk, 3));
    }
    uint32_t count = seq->tokens - seq->computed, chunk = 1 + below(walk, 400);
    if (chunk < count) {
        uint32_t end = (seq->computed + chunk) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        if (end <= seq->computed) end = (seq->computed / KV_BLOCK_TOKENS + 1) * KV_BLOCK_TOKENS;
        if (end < seq->tokens) count = end - seq->computed;
    }
    if (seq->computed + count + drafts > SHADOW_TOKENS) drafts = 0;
    if (shadow_step(&walk->shadow, seq, count, drafts) != OK) preempt(walk, seq);
}

static void walk_step(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_RUNNING);
    if (seq) go_on(walk, seq, 0);
}

static void walk_speculate(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_RUNNING);
    if (seq) go_on(walk, seq, 1 + below(walk, SHADOW_DRAFTS));
}

static void walk_preempt(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_RUNNING);
    if (seq) preempt(walk, seq);
}

static void walk_fork(struct walk *walk)
{
    struct shadow_seq *parent = any_seq(walk, SEQ_RUNNING), *child = any_seq(walk, SEQ_UNUSED);
    if (!parent || !child || parent->computed < parent->loaded * KV_BLOCK_TOKENS) return;
    enum status status = shadow_fork(&walk->shadow, parent, child);
    must(status == OK || status == BUSY || status == NO_MEMORY);
}

static void walk_finish(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_RUNNING);
    if (seq) shadow_stop(&walk->shadow, seq, true);
}

/* In the middle of a load, or of anything else. */
static void walk_abort(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, below(walk, 2) ? SEQ_LOADING : SEQ_RUNNING);
    if (seq) shadow_stop(&walk->shadow, seq, false);
}

/* B15: what was loaded fails, so none of it is believed again. */
static void walk_poison(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_RUNNING);
    struct prefix_block look;
    if (walk->lossless || !seq || !seq->loaded) return;
    uint32_t loaded = seq->loaded;
    if (!prefix_tree_look(&walk->shadow.tree, seq->path[loaded - 1], &look)) return;
    if (seq->plan.mode == RESUME_RESTORE)
        shadow_poison(&walk->shadow, seq->path[seq->plan.from - 1], KV_W);
    shadow_stop(&walk->shadow, seq, false);
    shadow_poison(&walk->shadow, seq->path[loaded - 1], KV_G);
    shadow_begin(&walk->shadow, seq);
    must(seq->matched < loaded);
}

static void walk_pump(struct walk *walk)
{
    shadow_pump(&walk->shadow, 1 + below(walk, 3));
}

static void walk_pump_all(struct walk *walk)
{
    shadow_settle(&walk->shadow);
}

/* I20: while nothing fails, whoever waits for a load gets it, or is told that it will not come. */
static void walk_loads_end(struct walk *walk)
{
    struct shadow *shadow = &walk->shadow;
    bool calm = !shadow->fault.hold && !shadow->copy_faults && !shadow->refusals && !scarce.rate;
    for (int k = 0; k < FAULT_KINDS; k++) calm &= shadow->fault.rate[k] == 0;
    if (!calm || shadow->options.host_waits) return;
    for (uint32_t i = 0; i < ROUNDS * SEQS; i++) {
        struct shadow_seq *seq = &walk->seq[i % SEQS];
        if (seq->state == SEQ_LOADING) shadow_poll(shadow, seq);
        shadow_settle(shadow);
    }
    must(!any_seq(walk, SEQ_LOADING));
}

/* A random block that the tree knows. */
static struct prefix_ref any_block(struct walk *walk)
{
    struct shadow *shadow = &walk->shadow;
    for (int i = 0; i < 4 && shadow->knowns; i++) {
        struct prefix_ref ref =
            prefix_tree_by_key(&shadow->tree, &shadow->known[below(walk, shadow->knowns)].key);
        if (!prefix_is_none(ref)) return ref;
    }
    return PREFIX_NONE;
}

static void check_moved(enum status status)
{
    must(status == OK || status == BUSY || status == BAD_INPUT);
}

static void walk_save(struct walk *walk)
{
    for (uint32_t i = 1 + below(walk, 4); i > 0; i--)
        check_moved(tiers_save(&walk->shadow.tiers, any_block(walk), below(walk, 3) ? KV_G : KV_W));
}

/* A sequence's sealed blocks, as write-through does. */
static void walk_save_path(struct walk *walk)
{
    struct shadow_seq *seq = any_seq(walk, SEQ_RUNNING);
    for (uint32_t i = 0; seq && i < seq->lease.g_blocks; i++)
        if (!prefix_is_none(seq->lease.g_pin[i].ref))
            for (int object = 0; object < KV_OBJECTS; object++)
                check_moved(tiers_save(&walk->shadow.tiers, seq->lease.g_pin[i].ref, object));
}

static void walk_spill(struct walk *walk)
{
    for (uint32_t i = 1 + below(walk, 4); i > 0; i--)
        check_moved(tiers_spill(&walk->shadow.tiers, any_block(walk), below(walk, 3) ? KV_G : KV_W,
                                !walk->lossless && below(walk, 2)));
}

/* A whole path goes down, first to last, as the engine's spilling does. */
static void walk_spill_path(struct walk *walk)
{
    struct prefix_ref chain[SHADOW_BLOCKS], ref = any_block(walk);
    uint32_t count = spill_chain(&walk->shadow.tree, ref, chain, SHADOW_BLOCKS);
    for (uint32_t i = 0; i < count; i++)
        check_moved(tiers_spill(&walk->shadow.tiers, chain[i], KV_G, false));
    if (count) check_moved(tiers_spill(&walk->shadow.tiers, ref, KV_W, below(walk, 2)));
}

/* A hit: its path is younger, and what of it is on disk will be written again. */
static void walk_touch(struct walk *walk)
{
    struct shadow *shadow = &walk->shadow;
    struct prefix_block look;
    bool w = below(walk, 3) == 0;
    for (struct prefix_ref ref = any_block(walk); ref.node; ref = look.before) {
        if (!prefix_tree_look(&shadow->tree, ref, &look)) return;
        prefix_tree_touch(&shadow->tree, &ref, 1, below(walk, 2));
        if (w) prefix_tree_touch_w(&shadow->tree, ref);
        if (look.state[KV_G][KV_DISK] == COPY_VALID)
            store_touch(shadow->store,
                        store_first_slot(shadow->store, KV_G) + look.slot[KV_G][KV_DISK]);
        w = false;
    }
}

static void walk_fetch(struct walk *walk)
{
    for (uint32_t i = 1 + below(walk, 3); i > 0; i--)
        check_moved(
            tiers_fetch(&walk->shadow.tiers, any_block(walk), below(walk, 3) ? KV_G : KV_W));
}

static void walk_drop(struct walk *walk)
{
    if (walk->lossless) return;
    prefix_tree_drop(&walk->shadow.tree, any_block(walk), below(walk, 2) ? KV_G : KV_W,
                     below(walk, KV_TIERS));
}

/* I22: one object's pressure takes nothing of the other. */
static void walk_evict(struct walk *walk)
{
    struct prefix_tree *tree = &walk->shadow.tree;
    struct prefix_evict evict = { .object = below(walk, 2) ? KV_G : KV_W,
                                  .tier = below(walk, 2) ? KV_DEVICE : KV_HOST,
                                  .tenant = below(walk, SHADOW_TENANTS) };
    if (walk->lossless) return;
    uint32_t used = tree->used[evict.object][evict.tier], want = 1 + below(walk, 6);
    uint32_t windows = tree->used[KV_W][KV_DEVICE] + tree->used[KV_W][KV_HOST];
    uint32_t blocks = tree->used[KV_G][KV_DEVICE] + tree->used[KV_G][KV_HOST];
    /* Where nothing moves and nothing is set aside, whatever is not pinned goes, whosever it is. */
    bool all = !walk->shadow.options.w_pinned && !walk->shadow.tiers.in_flight &&
               !any_seq(walk, SEQ_LOADING);
    uint32_t idle = used - tree->held[evict.object][evict.tier];
    uint32_t gone = prefix_tree_evict(tree, &evict, want);
    must(!all || gone == (want < idle ? want : idle));
    must(gone <= want && tree->used[evict.object][evict.tier] <= used);
    if (gone < want) must(prefix_is_none(prefix_tree_coldest(tree, &evict)));  // I20
    if (evict.object == KV_W)
        must(blocks == tree->used[KV_G][KV_DEVICE] + tree->used[KV_G][KV_HOST]);
    else if (!gone) must(windows == tree->used[KV_W][KV_DEVICE] + tree->used[KV_W][KV_HOST]);
}

static void walk_reap(struct walk *walk)
{
    prefix_tree_reap(&walk->shadow.tree, 1 + below(walk, 4));
}

static void walk_quota(struct walk *walk)
{
    uint32_t most = 2 * (uint32_t)walk->shadow.tree.options.bytes[KV_W];
    struct prefix_quota quota = { .weight = below(walk, 4),
                                  .cap = below(walk, 2) ? 0 : 1 + below(walk, most) };
    if (walk->lossless || walk->seed % 2) return;
    prefix_tree_quota(&walk->shadow.tree, below(walk, SHADOW_OWNERS), quota);
}

/* What stays above a cap is in use, or has something in use behind it. */
static void walk_trim(struct walk *walk)
{
    struct prefix_tree *tree = &walk->shadow.tree;
    enum kv_tier tier = below(walk, KV_TIERS);
    uint32_t most = below(walk, 2) ? UINT32_MAX : 1 + below(walk, 4);
    uint32_t used = tree->used[KV_G][tier] + tree->used[KV_W][tier];
    uint32_t gone = prefix_tree_trim(tree, tier, most);
    must(tree->used[KV_G][tier] + tree->used[KV_W][tier] + gone <= used);
    walk->trimmed += gone;
    if (gone < most) must(prefix_tree_trim(tree, tier, UINT32_MAX) == 0);
}

static void walk_purge(struct walk *walk)
{
    if (!walk->lossless) shadow_purge(&walk->shadow, below(walk, SHADOW_TENANTS));
}

static void walk_flush(struct walk *walk)
{
    if (walk->lossless) return;
    prefix_tree_flush(&walk->shadow.tree, below(walk, 8) ? below(walk, KV_DISK) : KV_DISK);
}

static void walk_clock(struct walk *walk)
{
    struct shadow *shadow = &walk->shadow;
    shadow->now_s += below(walk, 20) ? below(walk, 12) : below(walk, 100000);
    prefix_tree_clock(&shadow->tree, shadow->now_s);
}

static void walk_faults(struct walk *walk)
{
    struct shadow *shadow = &walk->shadow;
    if (walk->lossless) return;
    memset(shadow->fault.rate, 0, sizeof shadow->fault.rate);
    if (below(walk, 3))
        for (uint32_t i = below(walk, 4); i > 0; i--)
            shadow->fault.rate[below(walk, FAULT_KINDS)] = FAULT_ALWAYS / (4 + below(walk, 60));
    shadow->fault.shuffle = below(walk, 2);
    shadow->fault.hold = below(walk, 5) == 0;
    shadow->copy_faults = below(walk, 2) ? 0 : below(walk, 300);
    shadow->refusals = below(walk, 2) ? 0 : below(walk, 500);
    scarce.rate = below(walk, 3) ? 0 : below(walk, 200);
}

static void end_all(struct walk *walk)
{
    for (uint32_t i = 0; i < SEQS; i++) shadow_stop(&walk->shadow, &walk->seq[i], false);
}

static void walk_restart(struct walk *walk)
{
    if (walk->lossless) return;
    end_all(walk);
    shadow_restart(&walk->shadow, below(walk, 2) ? SHADOW_CLEAN : SHADOW_CRASH);
    if (below(walk, 3)) return;
    uint64_t found = walk->shadow.found, live = walk->shadow.tree.live;
    bool calm = true;
    for (int k = 0; k < FAULT_KINDS; k++) calm &= walk->shadow.fault.rate[k] == 0;
    shadow_restart(&walk->shadow, below(walk, 2) ? SHADOW_CLEAN : SHADOW_CRASH);
    if (!calm) return;
    must(walk->shadow.tree.live == live);  // I26: finding twice is finding the same
    (void)found;
}

static void walk_new_weights(struct walk *walk)
{
    if (!walk->lossless) shadow_new_weights(&walk->shadow);
}

static void walk_new_geometry(struct walk *walk)
{
    if (walk->lossless) return;
    end_all(walk);
    shadow_new_geometry(&walk->shadow);
}

#define OPERATION(name, weight)                                                                    \
    {                                                                                              \
        walk_##name, #name, weight                                                                 \
    }
static const struct {
    void (*run)(struct walk *walk);
    const char *name;
    uint32_t weight;
} operation[] = {
    OPERATION(begin, 130),    OPERATION(poll, 220),      OPERATION(step, 330),
    OPERATION(speculate, 70), OPERATION(preempt, 25),    OPERATION(fork, 35),
    OPERATION(finish, 15),    OPERATION(abort, 20),      OPERATION(poison, 4),
    OPERATION(pump, 330),     OPERATION(pump_all, 12),   OPERATION(loads_end, 12),
    OPERATION(save, 40),      OPERATION(save_path, 110), OPERATION(spill, 90),
    OPERATION(touch, 30),     OPERATION(fetch, 10),      OPERATION(drop, 6),
    OPERATION(evict, 15),     OPERATION(reap, 25),       OPERATION(quota, 6),
    OPERATION(trim, 30),      OPERATION(purge, 2),       OPERATION(spill_path, 110),
    OPERATION(flush, 7),      OPERATION(clock, 40),      OPERATION(faults, 6),
    OPERATION(restart, 3),    OPERATION(new_weights, 1), OPERATION(new_geometry, 1),
};
enum { OPERATIONS = sizeof operation / sizeof *operation };

/* ---- one walk ------------------------------------------------------------------------------- */

static uint64_t scramble(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static struct shadow_options options_for(struct walk *walk, const char *dir)
{
    struct shadow_options options = { .seed = walk->seed,
                                      .nodes = 20 + below(walk, 200),
                                      .ends_kept = 1 + below(walk, 3),
                                      .w_pinned = below(walk, 3),
                                      .may_replay = below(walk, 2),
                                      .host_waits = below(walk, 4) == 0,
                                      .caches_writes = below(walk, 2),
                                      .dir = dir };
    for (int object = 0; object < KV_OBJECTS; object++) {
        options.slots[object][KV_DEVICE] = 4 + below(walk, below(walk, 2) ? 17 : 60);
        options.slots[object][KV_HOST] = 2 + below(walk, below(walk, 2) ? 19 : 60);
    }
    bool host = below(walk, 8), disk = host && below(walk, 4);
    for (int object = 0; object < KV_OBJECTS; object++) {
        if (!host) options.slots[object][KV_HOST] = 0;
        options.slots[object][KV_DISK] = disk;
        if (!walk->lossless) continue;
        options.slots[object][KV_DEVICE] = options.slots[object][KV_HOST] = 500;
        options.slots[object][KV_DISK] = 0;
    }
    if (walk->lossless) options.nodes = 500;
    return options;
}

static void run_walk(uint64_t seed, const bool *leave_out, bool loud, const char *dir,
                     struct told *told)
{
    struct walk *walk = calloc(1, sizeof *walk);
    uint32_t weights = 0;
    must(walk);
    walk->seed = seed;
    walk->lossless = seed % 6 == 0;
    walk->shadow.random = scramble(seed + 1);
    struct shadow_options options = options_for(walk, dir);
    shadow_init(&walk->shadow, &options);
    walk->shadow.lossless = walk->lossless;
    scarce.armed = &shadow_scarce;
    for (int i = 0; i < OPERATIONS; i++) weights += operation[i].weight;

    for (uint32_t step = 0; step < STEPS; step++) {
        told->step = step;
        if (leave_out[step]) continue;
        walk->shadow.random = scarce.random = scramble(seed * STEPS + step);
        uint32_t draw = below(walk, weights), i = 0;
        while (draw >= operation[i].weight) draw -= operation[i++].weight;
        if (loud) fprintf(stderr, "%u %s\n", step, operation[i].name);
        operation[i].run(walk);
        shadow_audit(&walk->shadow, walk->seq, SEQS, step % DEEP_EVERY == 0);
    }
    end_all(walk);
    const struct shadow *s = &walk->shadow;
    *told = (struct told){ .step = STEPS,
                           .computed = s->computed,
                           .resumed = s->resumed,
                           .replays = s->replays,
                           .restores = s->restores,
                           .forks = s->forks,
                           .found = s->found,
                           .busy = s->busy,
                           .landed = s->landed,
                           .failed = s->failed,
                           .hits = s->hits,
                           .misses = s->misses,
                           .trimmed = walk->trimmed };
    shadow_settle(&walk->shadow);
    shadow_restart(&walk->shadow, SHADOW_CLEAN);
    told->forwarded = s->forwarded;
    told->lost = s->lost;
    shadow_release(&walk->shadow);
    free(walk);
}

/* ---- walks, and what is left of one that fails ----------------------------------------------- */

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static bool run_child(uint64_t seed, const bool *leave_out, bool loud, bool quiet,
                      struct told *told)
{
    char dir[64];
    int how;
    snprintf(dir, sizeof dir, "%s/fathom-walk-%d",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int one = 1; one < 32; one++) signal(one, SIG_DFL);  // cmocka catches some
        alarm(PATIENCE_S);  // a walk that stands still has failed too
        if (quiet) assert_non_null(freopen("/dev/null", "w", stderr));
        run_walk(seed, leave_out, loud, dir, told);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    bool good = WIFEXITED(how) && WEXITSTATUS(how) == 0;
    if (!good) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return good;
}

/* Leaves out what can be, in halves, quarters and so on, as long as it fails without. */
static void shorten(uint64_t seed, uint32_t failed_at, struct told *told)
{
    static bool leave_out[STEPS], attempt[STEPS];
    uint32_t tries = 0, left = 0;
    for (uint32_t i = 0; i < STEPS; i++) leave_out[i] = i > failed_at;
    for (uint32_t size = failed_at / 2; size && tries < TRIES; size /= 2)
        for (uint32_t at = 0; at < failed_at && tries < TRIES; at += size) {
            bool changes = false;
            memcpy(attempt, leave_out, sizeof attempt);
            for (uint32_t i = at; i < at + size && i < failed_at; i++) {
                changes |= !attempt[i];
                attempt[i] = true;
            }
            if (!changes) continue;
            tries++;
            if (!run_child(seed, attempt, false, true, told))
                memcpy(leave_out, attempt, sizeof attempt);
        }
    print_error("seed %llu fails at operation %u; these suffice:\nFATHOM_WALK_SEED=%llu "
                "FATHOM_WALK_ONLY=",
                (unsigned long long)seed, failed_at, (unsigned long long)seed);
    for (uint32_t i = 0; i <= failed_at; i++)
        if (!leave_out[i]) print_error("%s%u", left++ ? "," : "", i);
    print_error("\n");
    run_child(seed, leave_out, true, false, told);
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void add(struct told *sum, const struct told *one)
{
    sum->computed += one->computed;
    sum->resumed += one->resumed;
    sum->replays += one->replays;
    sum->restores += one->restores;
    sum->forks += one->forks;
    sum->found += one->found;
    sum->busy += one->busy;
    sum->landed += one->landed;
    sum->failed += one->failed;
    sum->hits += one->hits;
    sum->misses += one->misses;
    sum->forwarded += one->forwarded;
    sum->lost += one->lost;
    sum->trimmed += one->trimmed;
}

static void whole_cache_serves_no_wrong_byte_whatever_happens(void **unused)
{
    static bool leave_out[STEPS];
    uint64_t steps = number_from("FATHOM_WALK", 300000);
    uint64_t seed = number_from("FATHOM_WALK_SEED", 1);
    const char *only = getenv("FATHOM_WALK_ONLY");
    struct told sum = { 0 }, *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    (void)unused;
    assert_true(told != MAP_FAILED);
    if (only) {
        memset(leave_out, 1, sizeof leave_out);
        for (char *at = strdup(only), *one; (one = strsep(&at, ","));)
            if (strtoul(one, NULL, 10) < STEPS) leave_out[strtoul(one, NULL, 10)] = false;
        assert_true(run_child(seed, leave_out, true, false, told));
        return;
    }
    for (uint64_t done = 0; done < steps; done += STEPS, seed++) {
        bool good = run_child(seed, leave_out, false, false, told);
        if (!good) shorten(seed, told->step, told);
        assert_true(good);
        add(&sum, told);
    }
    print_message("computed %llu tokens, resumed %llu (%llu restores, %llu replays), %llu forks, "
                  "%llu times no room; %llu transfers landed, %llu failed; disk: %llu right, %llu "
                  "missed, %llu found, %llu lost, %llu written again; %llu trimmed\n",
                  (unsigned long long)sum.computed, (unsigned long long)sum.resumed,
                  (unsigned long long)sum.restores, (unsigned long long)sum.replays,
                  (unsigned long long)sum.forks, (unsigned long long)sum.busy,
                  (unsigned long long)sum.landed, (unsigned long long)sum.failed,
                  (unsigned long long)sum.hits, (unsigned long long)sum.misses,
                  (unsigned long long)sum.found, (unsigned long long)sum.lost,
                  (unsigned long long)sum.forwarded, (unsigned long long)sum.trimmed);
    if (steps < 300000) return;
    assert_true(sum.resumed > sum.computed / 10);  // every path was walked, and often
    assert_true(sum.replays > 20 && sum.restores > 1000 && sum.forks > 500 && sum.busy > 500);
    assert_true(sum.landed > 5000 && sum.failed > 200 && sum.hits > 100 && sum.found > 100 &&
                sum.forwarded > 30);
    assert_true(sum.trimmed > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_cache_serves_no_wrong_byte_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
