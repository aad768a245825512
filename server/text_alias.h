/* text_alias.h - which token ids stand for the end of a text that was seen before (cache.md 4.3).
 *
 * Clients send a conversation again as text. What the model wrote in it may have been other ids than
 * the tokenizer makes of that text, and then the cached blocks behind would not be found. So the ids
 * are kept under a place: a digest of who asks and of every byte of the conversation so far.
 *
 *     begin(tenant, salt) --pass(context)--> . --pass(reply)--> place of the reply's end
 *                                                               ^ keep, find
 *
 * A place is known by its HMAC alone, under a key of this process: no text is kept. In memory only,
 * bounded by bytes: what was unused for longest goes first.
 *
 * Thread: any; it guards itself.
 */
#ifndef SERVER_TEXT_ALIAS_H
#define SERVER_TEXT_ALIAS_H

#include "config/sha256.h"
#include "config/slice.h"
#include "engine/text/id_list.h"

struct text_alias;

struct alias_place {
    uint8_t digest[SHA256_BYTES];
};

/* NO_MEMORY leaves *alias NULL. */
CHECKED enum status text_alias_open(size_t most_bytes, struct text_alias **alias);
void text_alias_close(struct text_alias *alias);

void text_alias_begin(const struct text_alias *alias, const uint8_t tenant[SHA256_BYTES],
                      const uint8_t salt[SHA256_BYTES], struct alias_place *place);

/* Moves the place behind a piece of text. How a conversation is cut into pieces is part of it. */
void text_alias_pass(const struct text_alias *alias, struct alias_place *place, struct slice text);

/* Keeps the ids of the piece that ends here, in place of earlier ones. What does not fit, or for
 * which there is no memory, is not kept: it is only a help. */
void text_alias_keep(struct text_alias *alias, const struct alias_place *place, const uint32_t *id,
                     uint32_t count);

/* Appends them; false: nothing is known of this place. */
bool text_alias_find(struct text_alias *alias, const struct alias_place *place,
                     struct id_list *out);

/* Forgets everything. */
void text_alias_flush(struct text_alias *alias);

struct text_alias_stats {
    uint64_t entries, bytes, found, missed, dropped;
};
void text_alias_stats(struct text_alias *alias, struct text_alias_stats *stats);

#endif
