/* record.c - heads and sums. */
#include "cache/record.h"
#include <string.h>
#include "config/hash.h"

#define MAGIC 0x31724b46u  // "FKr1"
#define VERSION 1u

static uint64_t sum_of_head(const struct record_head *head)
{
    return hash64(head, offsetof(struct record_head, head_sum), MAGIC);
}

static uint32_t pages_for(uint32_t stored_bytes)
{
    return record_slot_bytes(stored_bytes) / RECORD_PAGE;
}

/* Head fields of a payload that lies behind the head, and zeros behind it. */
static void finish(uint8_t *slot, struct record_head *head)
{
    uint32_t end = RECORD_HEAD + head->stored_bytes;

    head->magic = MAGIC;
    head->version = VERSION;
    head->pages = pages_for(head->stored_bytes);
    head->payload_sum = hash64(slot + RECORD_HEAD, head->stored_bytes, 0);
    memset(slot + end, 0, (size_t)head->pages * RECORD_PAGE - end);
    memcpy(slot, head, sizeof *head);
}

void record_pack(void *slot, uint32_t image_bytes)
{
    struct record_head head = { .image_bytes = image_bytes, .stored_bytes = image_bytes };
    finish(slot, &head);
}

bool record_encode(struct codec *codec, const struct codec_map *map, const void *slot, void *out)
{
    struct record_head head = { .image_bytes = map->image_bytes, .encoded = 1 };
    uint32_t raw = record_slot_bytes(map->image_bytes);
    uint32_t most = raw - raw / 12;  // 8 % and a little

    most = most < raw - RECORD_PAGE ? most : raw - RECORD_PAGE;
    if (most <= RECORD_HEAD) return false;
    head.stored_bytes = codec_encode(codec, map, (const uint8_t *)slot + RECORD_HEAD,
                                     (uint8_t *)out + RECORD_HEAD, most - RECORD_HEAD, head.plane);
    if (head.stored_bytes == 0) return false;
    finish(out, &head);
    return true;
}

void record_name(void *slot, const struct record_id *id, const struct record_where *where)
{
    struct record_head *head = slot;
    must(head->magic == MAGIC);  // it was packed
    head->id = *id;
    head->where = *where;
    head->head_sum = sum_of_head(head);
}

bool record_is_head(const struct record_head *head)
{
    return head->magic == MAGIC && head->version == VERSION &&
           head->head_sum == sum_of_head(head) && head->id.object < RECORD_OBJECTS &&
           head->stored_bytes > 0 && head->pages == pages_for(head->stored_bytes);
}

bool record_is_at(const struct record_head *head, const struct record_where *where,
                  const struct prefix_key *key, uint32_t object)
{
    const struct record_where *is = &head->where;
    return record_is_head(head) && memcmp(is->store, where->store, RECORD_TAG) == 0 &&
           is->generation == where->generation && is->segment == where->segment &&
           is->page == where->page &&
           (!key || (memcmp(&head->id.key, key, sizeof *key) == 0 && head->id.object == object));
}

bool record_is_whole(const void *slot, uint32_t slot_bytes)
{
    const struct record_head *head = slot;
    return slot_bytes >= RECORD_HEAD && head->stored_bytes <= slot_bytes - RECORD_HEAD &&
           head->payload_sum == hash64((const uint8_t *)slot + RECORD_HEAD, head->stored_bytes, 0);
}

bool record_unpack(struct codec *codec, const struct codec_map *map, void *slot,
                   uint32_t image_bytes)
{
    struct record_head head;
    uint8_t *payload = (uint8_t *)slot + RECORD_HEAD;

    memcpy(&head, slot, sizeof head);
    if (head.image_bytes != image_bytes) return false;
    if (!record_is_whole(slot, record_slot_bytes(image_bytes))) return false;
    if (!head.encoded) return head.stored_bytes == image_bytes;
    if (!codec || !map || map->image_bytes != image_bytes) return false;
    return codec_decode(codec, map, head.plane, payload, head.stored_bytes, payload);
}
