/* scopes.h - whose the prefix tree's blocks are: a number of the tree for each scope.
 *
 * A scope is what records name by their tag (cache_identity.h): one user of one owner. There are more
 * of them than numbers, and those who come now go before those who came once: where no number is free,
 * the idle scope that came longest ago loses what is known of it. Its records on disk are found again
 * after a restart. An owner that has taken many numbers makes room among its own, so that none drives
 * the others out by inventing users.
 *
 * Thread: the engine thread.
 */
#ifndef ENGINE_SCOPES_H
#define ENGINE_SCOPES_H

#include "cache/prefix_tree.h"
#include "cache/record.h"

struct cache_owners;

struct scopes {
    struct prefix_tree *tree;
    struct cache_owners *owners;  // NULL: all are one owner's
    struct scope *scope;          // [most] owned
    uint32_t most, known;         // numbers; of these, the first ones that were ever given
    uint64_t entered;             // so far
};

/* Numbers from 0 to most - 1; the tree has one tenant more, which has nothing: `most` stands for no
 * number. NO_MEMORY leaves nothing to release. */
CHECKED enum status scopes_init(struct scopes *scopes, struct prefix_tree *tree, uint32_t most);
void scopes_release(struct scopes *scopes);

/* The tag's number, or one that nothing is filed under any more, or `most`. */
uint32_t scopes_number(struct scopes *scopes, const uint8_t tag[RECORD_TAG]);

/* The same for a job that comes, and another scope goes if need be; `most`: none could. The number is
 * the tag's until as many calls of leave. */
uint32_t scopes_enter(struct scopes *scopes, const uint8_t tag[RECORD_TAG]);
void scopes_leave(struct scopes *scopes, uint32_t number);

/* The tag that has this number, or NULL. */
const uint8_t *scopes_tag(const struct scopes *scopes, uint32_t number);

#endif
