/* stream_state.h - the private face of stream.c (events to text) and stream_write.c (text to JSON).
 */
#ifndef SERVER_STREAM_STATE_H
#define SERVER_STREAM_STATE_H

#include "engine/text/detok.h"
#include "server/openai_out.h"
#include "server/random_id.h"
#include "server/stream.h"

enum field { FIELD_NONE, FIELD_REASONING, FIELD_CONTENT, FIELD_ARGUMENTS, FIELD_COUNT };

/* Samples whose text is held back: it may become content, or nothing. */
struct waiting {
    struct sample_out *sample;  // [count]; owned
    uint32_t count, room;
};

struct choice {
    struct stream *stream;
    uint32_t index;  // = job
    struct detok detok;
    struct buf text;  // what one token decoded to
    struct reply *reply;

    /* Text as the inside of a JSON string. A stream has only the one being gathered for the next
     * chunk; an answer in one piece keeps all three, ARGUMENTS holding the whole call objects. */
    struct buf gathered[FIELD_COUNT];
    enum field field;  // stream: which one is gathered
    uint32_t call;     // the call under way
    bool call_open;
    struct buf call_ids;  // RANDOM_ID_SIZE bytes each

    struct buf logprobs;  // entries of content not yet written, with commas between
    struct out_legacy_logprobs legacy;
    struct waiting waiting;
    const struct sample_out *sample;  // of the token being read, until its text reached content

    uint64_t tokens, reasoning_tokens;
    bool think_open;     // joined reasoning was begun and not closed
    bool echoed;         // the prompt's text was written, or need not be
    const char *finish;  // NULL while under way
};

struct stream {
    struct request *request;
    struct stream_setup setup;
    char id[RANDOM_ID_SIZE];
    int64_t created;  // Unix seconds
    struct buf head;  // what every chunk begins with, up to the choice's index
    uint64_t cached_tokens;
    uint32_t live;          // choices under way
    uint32_t choice_count;  // prompts x choices
    struct choice choice[];
};

static inline const struct stream_prompt *choice_prompt(const struct choice *choice)
{
    return &choice->stream->setup.prompt[choice->index / choice->stream->setup.choices];
}

/* Renders the head of chunks or of the answer. */
void write_head(struct stream *stream);

/* The first chunk: the role. */
void write_role(struct choice *choice);

/* Text for a field, as its bytes; a stream gathers it until write_gathered. */
void write_text(struct choice *choice, enum field field, struct slice text);
void write_call_begin(struct choice *choice, uint32_t call, struct slice id, struct slice name);
void write_call_end(struct choice *choice);

/* Sends the chunk being gathered, if any. */
void write_gathered(struct choice *choice);

/* The last chunk of a choice (nothing is being gathered), and after the last choice everything that ends the answer. */
void write_finish(struct choice *choice);

/* Ends a stream that cannot be ended well. */
void write_error(struct stream *stream, const char *message);

#endif
