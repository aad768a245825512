/* turns.h - a conversation from protocols whose assistant turns come in pieces: thinking, texts and
 * calls, each a block or an item of its own.
 *
 *     pieces of one turn -> one assistant message; texts are joined by two newlines
 *
 * All memory is the request's arena. Thread: a prep worker.
 */
#ifndef SERVER_TURNS_H
#define SERVER_TURNS_H

#include "server/openai_parts.h"

struct turns {
    struct arena *arena;
    struct chat *chat;        // message has room for `most` and one more
    struct refused *refused;  // filled when memory runs out
    size_t most;
    struct slice *thought, *text;  // [most]; of the turn under way
    size_t thoughts, texts;
    struct chat_call *call;  // [most]; of all turns, one after the other
    size_t calls, first_call;
};

/* For at most `most` messages and pieces together. */
CHECKED enum status turns_init(struct turns *turns, struct openai_reader *r, size_t most);

/* Pieces of the assistant's turn under way. */
void turns_think(struct turns *turns, struct slice text);
void turns_say(struct turns *turns, struct slice text);
struct chat_call *turns_call(struct turns *turns);  // empty, to be filled

/* Is there a turn under way? */
bool turns_open(const struct turns *turns);

/* Ends the turn under way, if any: its message, or NULL. NO_MEMORY fills refused. */
CHECKED enum status turns_end(struct turns *turns, struct chat_message **message);

/* A message of another role, behind the turn under way. NO_MEMORY fills refused. */
CHECKED enum status turns_add(struct turns *turns, enum chat_role role, struct slice content,
                              struct chat_message **message);

/* The texts joined by two newlines, in the arena; one alone stays where it is, none is data NULL.
 * NO_MEMORY fills refused. */
CHECKED enum status turns_join(struct turns *turns, const struct slice *text, size_t count,
                               struct slice *joined);

#endif
