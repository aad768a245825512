/* stream_state.h - the private face of stream.c (events to text) and of the writers (text to JSON),
 * one for each protocol: stream_write.c, anthropic_write.c, ...
 */
#ifndef SERVER_STREAM_STATE_H
#define SERVER_STREAM_STATE_H

#include "engine/text/detok.h"
#include "server/errors.h"
#include "server/openai_out.h"
#include "server/random_id.h"
#include "server/recall.h"
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
    struct recall_reply recall;  // the same for when it comes back

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
    bool think_open;  // joined reasoning was begun and not closed
    bool echoed;      // the prompt's text was written, or need not be

    bool ended;  // nothing more comes; the rest says how
    enum reply_finish finish;
    bool cut;  // the engine had to stop it: a deadline, or the daemon's end
};

struct stream {
    struct request *request;
    struct stream_setup setup;
    const struct stream_writer *writer;
    void *own;  // the writer's; NULL when it has none
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

struct out_usage stream_usage(const struct stream *stream);

/* How a protocol says what stream.c reads. What it says goes to request->out, event by event when
 * request->stream is set, else in one piece at the last finish. Failures stay in the buffers. */
struct stream_writer {
    const char *id_prefix, *call_prefix;

    /* What it needs before the first event: the head, or its own state. NO_MEMORY: close comes too. */
    CHECKED enum status (*open)(struct stream *stream);
    void (*close)(struct stream *stream);  // may be NULL

    void (*begin)(struct choice *choice);  // the first event

    /* Text for a field, as its bytes; a stream gathers it until flush. */
    void (*text)(struct choice *choice, enum field field, struct slice text);
    void (*call_begin)(struct choice *choice, uint32_t call, struct slice id, struct slice name);
    void (*call_end)(struct choice *choice);
    void (*flush)(struct choice *choice);

    /* The last event of a choice (all is flushed), and after the last choice everything that ends the
     * answer, with request->done. */
    void (*finish)(struct choice *choice);

    /* Ends an answer that cannot be ended well. */
    void (*error)(struct stream *stream, enum refusal refusal, const char *message);
};

extern const struct stream_writer chat_writer;        // stream_write.c
extern const struct stream_writer completion_writer;  // stream_write.c
extern const struct stream_writer messages_writer;    // anthropic_write.c
extern const struct stream_writer responses_writer;   // responses_write.c

#endif
