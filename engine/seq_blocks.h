/* seq_blocks.h - how a sequence comes by its blocks, through the prefix cache, and gives them back.
 *
 * The phases are seq.h's. Every sequence is entered once, which says in whose name it reads and
 * writes, and left before it is closed. Thread: the engine thread, between steps.
 */
#ifndef ENGINE_SEQ_BLOCKS_H
#define ENGINE_SEQ_BLOCKS_H

#include "engine/seq.h"

void seq_enter(struct seq *seq, struct prefix_cache *cache);
void seq_leave(struct seq *seq, struct prefix_cache *cache);

/* A sequence that will wait for a while has what it needs from the disk brought up to the host. */
void seq_fetch(struct seq *seq, struct prefix_cache *cache);

/* A WAITING sequence looks its tokens up: HELD with what the device has, LOADING when something has
 * to come up first. False: it stays WAITING, since there is no room to load into as yet. */
bool seq_match(struct seq *seq, struct prefix_cache *cache);

/* A LOADING one: HELD once all is there; WAITING after a failure, to match again. */
void seq_poll_load(struct seq *seq, struct prefix_cache *cache);

/* Blocks for all its tokens and pages for the next `count`. BUSY, NO_MEMORY: it stays as it is. */
CHECKED enum status seq_reserve(struct seq *seq, uint32_t count);

/* A child with the same prompt goes on where the parent stands, behind the prompt: HELD, once
 * copy[0, *copies) are made. False: it stays WAITING. */
bool seq_fork(struct seq *parent, struct seq *child, struct lease_copy copy[KV_OBJECTS],
              uint32_t *copies);

/* What was computed of known tokens may now be found by others. */
void seq_commit(struct seq *seq);

/* What it holds made logits that are no numbers: nobody may find it any more. */
void seq_poison(struct seq *seq, struct prefix_cache *cache);

/* To WAITING, from wherever it is. With keep its last window stays, to go on from. */
void seq_give_back(struct seq *seq, struct prefix_cache *cache, bool keep);

#endif
