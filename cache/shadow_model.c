/* shadow_model.c - bytes that follow from the tokens, and the memory of all that was sealed. */
#include <string.h>
#include "cache/shadow.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    a ^= a >> 32;
    a *= 0xd6e8feb86659fd93u;
    return a ^ a >> 29;
}

struct shadow_shape shadow_shape_of(const uint32_t *ratio, uint32_t layers)
{
    struct shadow_shape shape = { .layers = layers };
    must(layers <= SHADOW_LAYERS);
    shape.w_words = layers * KV_BLOCK_TOKENS;
    for (uint32_t l = 0; l < layers; l++) {
        shape.ratio[l] = ratio[l];
        if (!ratio[l]) continue;
        shape.entry[l] = shape.g_words;
        shape.g_words += KV_BLOCK_TOKENS / ratio[l];
        if (ratio[l] != 4) continue;
        shape.key[l] = shape.g_words;
        shape.g_words += KV_BLOCK_TOKENS / 4;
        shape.tail[l] = shape.w_words;
        shape.w_words += SHADOW_RING;
    }
    must(RECORD_HEAD + shape.w_words * 4 <= SHADOW_SLOT);
    return shape;
}

uint64_t shadow_past(uint64_t past, uint32_t token)
{
    return mix(past, token + 1);
}

/* Way w leaves way 0 somewhere inside the block. */
uint32_t shadow_token(uint32_t way, uint32_t place)
{
    static const uint32_t LEAVES[SHADOW_WAYS] = { 0, 0, 64, 127 };
    return place < LEAVES[way] ? place : way * 1000 + place;
}

uint32_t shadow_word(uint64_t past, uint32_t layer, enum shadow_plane plane)
{
    return (uint32_t)mix(past, 0x5bd1e995u + layer * 16 + plane);
}

/* ---- the oracle: an open table of indexes */

static uint32_t home(const struct shadow *shadow, const struct prefix_key *key)
{
    uint32_t word;
    memcpy(&word, key->byte + 8, sizeof word);  // other bytes than the tree's table uses
    return word & (shadow->finds - 1);
}

static uint32_t *place_of(const struct shadow *shadow, const struct prefix_key *key)
{
    uint32_t at = home(shadow, key);
    while (shadow->find[at] &&
           memcmp(&shadow->known[shadow->find[at] - 1].key, key, sizeof *key) != 0)
        at = (at + 1) & (shadow->finds - 1);
    return &shadow->find[at];
}

struct shadow_known *shadow_find(const struct shadow *shadow, const struct prefix_key *key)
{
    if (!shadow->finds) return NULL;
    uint32_t at = *place_of(shadow, key);
    return at ? &shadow->known[at - 1] : NULL;
}

static void grow(struct shadow *shadow)
{
    if (shadow->knowns < shadow->knowns_room) return;
    shadow->knowns_room = shadow->knowns_room ? shadow->knowns_room * 2 : 256;
    shadow->known = realloc(shadow->known, shadow->knowns_room * sizeof *shadow->known);
    free(shadow->find);
    shadow->finds = shadow->knowns_room * 2;
    shadow->find = calloc(shadow->finds, sizeof *shadow->find);
    must(shadow->known && shadow->find);
    for (uint32_t i = 0; i < shadow->knowns; i++) *place_of(shadow, &shadow->known[i].key) = i + 1;
}

void shadow_sealed(void *user, struct prefix_ref ref, enum kv_object object)
{
    struct shadow *shadow = user;
    const struct shadow_seq *seq = shadow->sealing;
    struct prefix_block look;
    must(prefix_tree_look(&shadow->tree, ref, &look));
    uint32_t scarce = shadow_scarce;
    shadow_scarce = 0;
    grow(shadow);
    shadow_scarce = scarce;
    uint64_t past = seq->past[look.depth * KV_BLOCK_TOKENS];
    uint32_t way = seq->way[look.depth], *at = place_of(shadow, &look.key);
    if (!*at) {
        shadow->known[shadow->knowns] =
            (struct shadow_known){ look.key, past, way, look.tenant, look.depth, { false } };
        *at = ++shadow->knowns;
    }
    struct shadow_known *known = &shadow->known[*at - 1];
    must(known->past == past && known->way == way && known->depth == look.depth);  // I1
    must(known->tenant == seq->tenant && look.tenant == seq->tenant);              // I12
    known->live[object] = true;
}

static void right_g(const struct shadow *shadow, const uint64_t *past, uint32_t *word)
{
    const struct shadow_shape *shape = &shadow->shape;
    for (uint32_t l = 0; l < shape->layers; l++) {
        uint32_t ratio = shape->ratio[l];
        for (uint32_t i = 0; ratio && i < KV_BLOCK_TOKENS / ratio; i++) {
            word[shape->entry[l] + i] = shadow_word(past[(i + 1) * ratio], l, PLANE_ENTRY);
            if (ratio == 4) word[shape->key[l] + i] = shadow_word(past[(i + 1) * 4], l, PLANE_KEY);
        }
    }
}

static void right_w(const struct shadow *shadow, const uint64_t *past, uint32_t *word)
{
    const struct shadow_shape *shape = &shadow->shape;
    for (uint32_t l = 0; l < shape->layers; l++) {
        for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i++)
            word[l * KV_BLOCK_TOKENS + i] = shadow_word(past[i + 1], l, PLANE_ROW);
        for (uint32_t i = 0; shape->ratio[l] == 4 && i < SHADOW_RING; i++)
            word[shape->tail[l] + i] =
                shadow_word(past[KV_BLOCK_TOKENS - SHADOW_RING + i + 1], l, PLANE_TAIL);
    }
}

bool shadow_is_right(const struct shadow *shadow, const struct prefix_key *key,
                     enum kv_object object, const uint32_t *word)
{
    uint64_t past[KV_BLOCK_TOKENS + 1];
    uint32_t right[SHADOW_SLOT / 4];
    const struct shadow_known *known = shadow_find(shadow, key);
    if (!known) return false;
    past[0] = known->past;
    for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i++)
        past[i + 1] = shadow_past(past[i], shadow_token(known->way, i));
    if (object == KV_G) right_g(shadow, past, right);
    else right_w(shadow, past, right);
    uint32_t words = object == KV_G ? shadow->shape.g_words : shadow->shape.w_words;
    return memcmp(right, word, words * sizeof *word) == 0;
}
