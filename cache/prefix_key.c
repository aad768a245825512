/* prefix_key.c - every hash starts with what it is for and states the length of what varies. */
#include "cache/prefix_key.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tokens and lengths are hashed as u32le");

enum { PARTS = 8 };

/* Tag, then each slice behind its length. `length` must outlive the part list. */
static size_t with_lengths(struct slice tag, const struct slice *slice, size_t slices,
                           uint32_t length[PARTS], struct sha256_part part[2 * PARTS + 1])
{
    size_t parts = 0;
    must(slices <= PARTS);
    part[parts++] = (struct sha256_part){ tag.data, tag.size };
    for (size_t i = 0; i < slices; i++) {
        must(slice[i].size <= UINT32_MAX);
        length[i] = (uint32_t)slice[i].size;
        part[parts++] = (struct sha256_part){ &length[i], sizeof length[i] };
        part[parts++] = (struct sha256_part){ slice[i].data, slice[i].size };
    }
    return parts;
}

static struct prefix_key scope_of(struct slice secret, struct slice kind, struct slice name,
                                  struct slice salt)
{
    struct prefix_key scope;
    uint32_t length[PARTS];
    struct sha256_part part[2 * PARTS + 1];
    struct slice slice[] = { name, salt };
    size_t parts = with_lengths(kind, slice, 2, length, part);
    hmac_sha256((const uint8_t *)secret.data, secret.size, part, parts, scope.byte);
    return scope;
}

struct prefix_key prefix_scope(struct slice secret, struct slice tenant, struct slice salt)
{
    return scope_of(secret, SLICE("tenant"), tenant, salt);
}

struct prefix_key prefix_scope_shared(struct slice secret, struct slice group)
{
    return scope_of(secret, SLICE("shared"), group, SLICE(""));
}

struct prefix_key prefix_key_root(const struct prefix_space *space)
{
    struct prefix_key root;
    uint32_t length[PARTS];
    struct sha256_part part[2 * PARTS + 1];
    struct slice slice[] = {
        space->format,
        space->model,
        space->adapter,
        space->numerics,
        { (const char *)space->scope.byte, sizeof space->scope.byte },
    };
    size_t parts = with_lengths(SLICE("kvns1"), slice, 5, length, part);
    sha256(part, parts, root.byte);
    return root;
}

struct prefix_key prefix_key_next(const struct prefix_key *before, struct slice extra,
                                  const uint32_t token[KV_BLOCK_TOKENS])
{
    struct prefix_key key;
    uint32_t length = (uint32_t)extra.size;
    struct sha256_part part[] = { { before->byte, sizeof before->byte },
                                  { &length, sizeof length },
                                  { extra.data, extra.size },
                                  { token, KV_BLOCK_TOKENS * sizeof *token } };
    must(extra.size <= UINT32_MAX);
    sha256(part, 4, key.byte);
    return key;
}

void prefix_keys_release(struct prefix_keys *keys)
{
    free(keys->key);
    *keys = (struct prefix_keys){ 0 };
}

static bool has_room(struct prefix_keys *keys)
{
    if (keys->count < keys->room) return true;
    uint32_t room = keys->room ? 2 * keys->room : 16;
    struct prefix_key *grown = realloc(keys->key, room * sizeof *grown);
    if (!grown) return false;
    keys->key = grown;
    keys->room = room;
    return true;
}

struct prefix_key prefix_keys_at(struct prefix_keys *keys, uint32_t i,
                                 const struct prefix_key *before, const uint32_t *token)
{
    if (i < keys->count) return keys->key[i];
    struct prefix_key key = prefix_key_next(before, SLICE(""), token + (size_t)i * KV_BLOCK_TOKENS);
    if (i == keys->count && has_room(keys)) keys->key[keys->count++] = key;
    return key;
}
