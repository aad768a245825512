/* replay.c - match, resume, compute, keep, end: an engine's calls without an engine. */
#include "cache/replay.h"
#include "cache/replay_log.h"
#include "cache/resume.h"
#include "cache/spill.h"
#include "cache/w_policy.h"

struct replay {
    const struct trace *trace;
    const struct replay_options *options;
    struct replay_result *result;
    struct prefix_tree tree;
    struct replay_log log;
    enum kv_tier home;  // of new blocks
    struct prefix_key root;
    uint64_t salt;
    uint32_t ids_block, block_tokens;  // ids and trace tokens that a block stands for
    uint32_t next_slot[KV_OBJECTS];    // numbers never run out: room is counted, not numbered

    uint32_t *token;              // [most + 1][KV_BLOCK_TOKENS] of the request at hand
    struct prefix_ref *path;      // [most + 1]
    struct prefix_pin *pin;       // [most + 1]
    struct prefix_ref *chain;     // [most + 1] on its way to disk
    struct resume_block *resume;  // [most + 1]
    uint32_t most;                // blocks of a request
};

static void slot_freed(void *user, enum kv_object object, enum kv_tier tier, uint32_t slot)
{
    struct replay *replay = user;
    if (tier == KV_DISK && object == KV_G) replay_log_freed(&replay->log, slot);
    replay->result->windows_last -= object == KV_W;
}

/* ---- a request's blocks --------------------------------------------------------------------- */

static uint32_t blocks_of(const struct replay *replay, const struct trace_request *request)
{
    return request->ids / replay->ids_block;
}

static const uint32_t *ids_of(const struct replay *replay, const struct trace_request *request)
{
    return replay->trace->id + request->first_id;
}

/* Of the prompt's blocks, those that its tokens fill. */
static uint32_t whole_blocks(const struct replay *replay, const struct trace_request *request,
                             uint32_t tokens)
{
    uint32_t blocks = blocks_of(replay, request);
    bool all = replay->options->kinds & REPLAY_WHOLE_IDS;
    uint32_t whole = tokens / replay->block_tokens;
    return all || whole > blocks ? blocks : whole;
}

static void fill_tokens(struct replay *replay, const struct trace_request *request)
{
    uint32_t each = KV_BLOCK_TOKENS / replay->ids_block;
    uint32_t ids = blocks_of(replay, request) * replay->ids_block;
    for (uint32_t i = 0; i < ids; i++)
        trace_tokens(ids_of(replay, request)[i], replay->salt, replay->token + i * each, each);
}

static enum status make_rooms(struct replay *replay)
{
    for (uint32_t i = 0; i < replay->trace->requests; i++) {
        uint32_t blocks = blocks_of(replay, &replay->trace->request[i]);
        if (blocks > replay->most) replay->most = blocks;
    }
    size_t room = (size_t)replay->most + 1;
    replay->token = calloc(room, KV_BLOCK_TOKENS * sizeof *replay->token);
    replay->path = calloc(room, sizeof *replay->path);
    replay->pin = calloc(room, sizeof *replay->pin);
    replay->chain = calloc(room, sizeof *replay->chain);
    replay->resume = calloc(room, sizeof *replay->resume);
    return replay->token && replay->path && replay->pin && replay->chain && replay->resume
               ? OK
               : NO_MEMORY;
}

/* ---- room ----------------------------------------------------------------------------------- */

static void write_to_disk(struct replay *replay, struct prefix_ref ref)
{
    struct prefix_pin pin;
    uint32_t slot = replay_log_take(&replay->log);
    if (slot == UINT32_MAX) return;
    if (!prefix_tree_begin(&replay->tree, ref, KV_G, KV_DISK, slot, &pin)) {
        replay_log_freed(&replay->log, slot);
        return;
    }
    replay_log_written(&replay->log, slot, ref);
    prefix_tree_land(&replay->tree, &pin);
    prefix_tree_unpin(&replay->tree, &pin);
}

/* The victim and all before it, where it is worth it. */
static void spill(struct replay *replay, struct prefix_ref ref)
{
    struct spill_limits limits = { .one_shot_s = replay->options->one_shot_s };
    struct prefix_block look;
    must(prefix_tree_look(&replay->tree, ref, &look));
    if (look.state[KV_G][KV_DISK] != COPY_NONE) return;
    struct spill_ask ask = { .reason = SPILL_VICTIM,
                             .object = KV_G,
                             .in_session = !look.is_leaf,
                             .hits = look.hits,
                             .idle_s = replay->tree.now_s - look.last_use_s };
    if (spill_verdict(&limits, &ask) != SPILL_WRITE) return;
    uint32_t count = spill_chain(&replay->tree, ref, replay->chain, replay->most + 1);
    for (uint32_t i = 0; i < count; i++) write_to_disk(replay, replay->chain[i]);
}

/* For one more block on the host; false: all of it is in use. */
static bool make_host_room(struct replay *replay)
{
    struct prefix_tree *tree = &replay->tree;
    struct prefix_evict evict = { .object = KV_G, .tier = KV_HOST };
    if (!replay->options->blocks) return true;
    while (tree->used[KV_G][KV_HOST] >= replay->options->blocks) {
        struct prefix_ref victim = prefix_tree_coldest(tree, &evict);
        if (prefix_is_none(victim)) return false;
        if (replay->options->disk_blocks) spill(replay, victim);
        prefix_tree_drop(tree, victim, KV_G, KV_HOST);
        replay->result->evicted++;
    }
    return true;
}

/* A slot where new blocks go, or UINT32_MAX. */
static uint32_t take_slot(struct replay *replay)
{
    if (replay->home == KV_DISK) return replay_log_take(&replay->log);
    return make_host_room(replay) ? replay->next_slot[KV_G]++ : UINT32_MAX;
}

/* ---- what an engine does -------------------------------------------------------------------- */

/* Seals blocks [from, to) on the path; how many there are then. Fewer: the room is all in use. */
static uint32_t seal(struct replay *replay, uint32_t from, uint32_t to)
{
    struct prefix_tree *tree = &replay->tree;
    struct prefix_block last = { .key = replay->root };
    if (from) must(prefix_tree_look(tree, replay->path[from - 1], &last));
    for (uint32_t i = from; i < to; i++) {
        uint32_t slot = take_slot(replay);
        if (slot == UINT32_MAX) return i;
        last.key =
            prefix_key_next(&last.key, SLICE(""), replay->token + (size_t)i * KV_BLOCK_TOKENS);
        struct prefix_add add = { .before = i ? replay->path[i - 1] : PREFIX_ROOT,
                                  .key = last.key,
                                  .tier = replay->home,
                                  .slot = slot };
        enum prefix_added added = prefix_tree_add(tree, &add, &replay->path[i], &replay->pin[i]);
        bool on_disk = replay->home == KV_DISK;
        if (on_disk && added == PREFIX_ADOPTED)
            replay_log_written(&replay->log, slot, replay->path[i]);
        else if (on_disk) replay_log_freed(&replay->log, slot);
        if (added == PREFIX_PRIVATE) return i;
        replay->result->blocks += added == PREFIX_ADOPTED;
    }
    return to;
}

static void keep(struct replay *replay, uint32_t boundary, enum w_class w_class)
{
    struct prefix_keep keep = { .ref = replay->path[boundary - 1],
                                .w_class = w_class,
                                .tier = KV_HOST,
                                .slot = replay->next_slot[KV_W]++ };
    replay->result->windows_last++;
    if (prefix_tree_keep(&replay->tree, &keep, NULL) == PREFIX_ADOPTED) replay->result->windows++;
    else replay->result->windows_last--;
}

/* Pins the path's first blocks where they are, then brings up to the host what is not there. */
static void pin_path(struct replay *replay, uint32_t count)
{
    struct prefix_tree *tree = &replay->tree;
    for (uint32_t i = 0; i < count; i++) {
        struct prefix_ref ref = replay->path[i];
        if (prefix_tree_pin(tree, ref, KV_G, KV_HOST, &replay->pin[i]) == COPY_NONE)
            must(prefix_tree_pin(tree, ref, KV_G, KV_DISK, &replay->pin[i]) == COPY_VALID);
    }
    for (uint32_t i = 0; i < count && replay->home == KV_HOST; i++) {
        struct prefix_pin pin;
        if (replay->pin[i].tier == KV_HOST) continue;
        if (!make_host_room(replay)) return;
        if (!prefix_tree_begin(tree, replay->path[i], KV_G, KV_HOST, replay->next_slot[KV_G]++,
                               &pin))
            return;
        prefix_tree_land(tree, &pin);
        prefix_tree_unpin(tree, &replay->pin[i]);
        replay->pin[i] = pin;
    }
}

static void unpin_path(struct replay *replay, uint32_t count)
{
    while (count) prefix_tree_unpin(&replay->tree, &replay->pin[--count]);
}

/* The output of `before`, where the next request repeats its prompt and so shows it. */
static void learn_output(struct replay *replay, const struct trace_request *before,
                         const struct trace_request *request)
{
    uint32_t prompt = whole_blocks(replay, before, before->input_tokens);
    uint32_t end = whole_blocks(replay, request, before->input_tokens + before->output_tokens);
    size_t bytes = (size_t)prompt * replay->ids_block * sizeof(uint32_t);
    if (end < prompt || memcmp(ids_of(replay, before), ids_of(replay, request), bytes)) return;

    uint32_t known = prefix_tree_match(&replay->tree, &replay->root, replay->token,
                                       end * KV_BLOCK_TOKENS + 1, replay->path);
    pin_path(replay, known);
    uint32_t sealed = seal(replay, known, end);
    if (sealed == end && end && replay->options->kinds & REPLAY_OUTPUT_END)
        keep(replay, end, W_END);
    unpin_path(replay, sealed);
}

/* Blocks from which this prompt need not compute, of `known`. */
static uint32_t resume_at(struct replay *replay, uint32_t known, uint32_t tokens)
{
    struct resume_ask ask = { .block = replay->resume,
                              .tokens = tokens,
                              .rates = { .compute_tokens_s = 1, .host_bytes_s = 1e12 } };
    if (replay->options->kinds & REPLAY_NO_WINDOWS) return known;
    ask.blocks = resume_blocks(&replay->tree, replay->path, known, replay->resume);
    return resume_plan(&ask).from;
}

static void keep_windows(struct replay *replay, const struct w_hints *hints, uint32_t from,
                         uint32_t to)
{
    for (uint32_t b = from + 1; b <= to; b++) {
        enum w_class w_class = w_class_at(hints, b);
        if (w_class != W_NONE) keep(replay, b, w_class);
    }
}

/* Who has hit a block keeps all before it on disk. Returns how many of the first `from` come from
 * there. */
static uint32_t touch_disk(struct replay *replay, uint32_t known, uint32_t from)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < known; i++) {
        struct prefix_block look;
        must(prefix_tree_look(&replay->tree, replay->path[i], &look));
        if (look.state[KV_G][KV_DISK] != COPY_VALID) continue;
        replay_log_touch(&replay->log, look.slot[KV_G][KV_DISK]);
        count += i < from && look.state[KV_G][KV_HOST] != COPY_VALID;
    }
    return count;
}

static void replay_request(struct replay *replay, const struct trace_request *request)
{
    struct replay_result *result = replay->result;
    uint32_t kinds = replay->options->kinds;
    uint32_t whole = whole_blocks(replay, request, request->input_tokens);
    uint32_t asked =
        kinds & REPLAY_WHOLE_IDS ? whole : (request->input_tokens - 1) / replay->block_tokens;
    if (asked > whole) asked = whole;
    uint32_t tokens = asked * KV_BLOCK_TOKENS + 1;
    uint32_t known =
        prefix_tree_match(&replay->tree, &replay->root, replay->token, tokens, replay->path);
    uint32_t from = resume_at(replay, known, tokens);

    uint64_t most = request->input_tokens - 1, block = replay->block_tokens;
    result->requests++;
    result->input_tokens += request->input_tokens;
    result->known_tokens += known * block < most ? known * block : most;
    result->hit_tokens += from * block < most ? from * block : most;
    if (replay->options->disk_blocks)
        result->disk_hit_tokens += touch_disk(replay, known, from) * block;

    struct prefix_block end = { 0 };
    if (known) must(prefix_tree_look(&replay->tree, replay->path[known - 1], &end));
    struct w_hints hints = { .prompt_tokens = whole * KV_BLOCK_TOKENS,
                             .stable_tokens =
                                 kinds & REPLAY_PROMPT_END ? whole * KV_BLOCK_TOKENS : 0,
                             .long_interval = replay->options->interval_tokens,
                             .known = known,
                             .known_has_w = end.w_class != W_NONE,
                             .known_goes_on = kinds & REPLAY_BRANCH && known && !end.is_leaf };
    prefix_tree_touch(&replay->tree, replay->path, known, true);
    if (from) prefix_tree_touch_w(&replay->tree, replay->path[from - 1]);
    pin_path(replay, known);
    uint32_t sealed = seal(replay, known, whole);
    if (!(kinds & REPLAY_NO_WINDOWS)) keep_windows(replay, &hints, from, sealed);
    prefix_tree_touch(&replay->tree, replay->path, sealed, false);
    unpin_path(replay, sealed);
}

static void replay_all(struct replay *replay)
{
    const struct trace *trace = replay->trace;
    for (uint32_t i = 0; i < trace->requests; i++) {
        const struct trace_request *request = &trace->request[i];
        uint32_t now_s = (uint32_t)(request->at_ms / 1000);
        if (!request->input_tokens) continue;
        if (now_s > replay->tree.now_s) prefix_tree_clock(&replay->tree, now_s);
        fill_tokens(replay, request);
        if (i && replay->options->kinds & REPLAY_OUTPUT_KNOWN)
            learn_output(replay, request - 1, request);
        replay_request(replay, request);
    }
}

enum status replay_trace(const struct trace *trace, uint64_t salt,
                         const struct replay_options *options, struct replay_result *result)
{
    struct replay replay = {
        .trace = trace, .options = options, .result = result, .home = KV_HOST, .salt = salt
    };
    uint32_t room = options->blocks ? options->blocks + 1 : trace->ids + 1;
    if (options->kinds & REPLAY_NO_HOST) room = 1, replay.home = KV_DISK;
    if (options->disk_blocks) room += options->disk_blocks + 2 * options->segment_blocks;
    replay.ids_block = trace->id_tokens < KV_BLOCK_TOKENS ? KV_BLOCK_TOKENS / trace->id_tokens : 1;
    replay.block_tokens = replay.ids_block * trace->id_tokens;
    struct prefix_options tree = { .nodes = room,
                                   .tenants = 1,
                                   .ends_kept =
                                       options->ends_kept ? options->ends_kept : UINT32_MAX,
                                   .user = &replay,
                                   .freed = slot_freed };
    enum status status = make_rooms(&replay);
    if (status == OK) status = prefix_tree_init(&replay.tree, &tree);
    if (status == OK) {
        struct replay_log_options log = { .tree = &replay.tree,
                                          .blocks = options->disk_blocks,
                                          .segment_blocks = options->segment_blocks,
                                          .forward_percent = options->forward_percent };
        if (options->disk_blocks) status = replay_log_init(&replay.log, &log);
        if (status == OK) replay_all(&replay);
        result->disk_writes += replay.log.written;
        result->disk_forwards += replay.log.forwarded;
        replay_log_release(&replay.log);
        prefix_tree_release(&replay.tree);
    }
    free(replay.chain);
    free(replay.resume);
    free(replay.pin);
    free(replay.path);
    free(replay.token);
    return status;
}
