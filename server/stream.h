/* stream.h - one reply under way: engine events to text to parts to the client's JSON.
 *
 *     event {token ids, logprobs} -> detok -> reply parser -> parts -> chunks, or the whole answer
 *
 * It is the protocol half of every request that the model answers: its prep calls stream_open last,
 * and stream_start, stream_event and stream_release are its handler's rest. What the client reads is
 * the writer's of the kind (stream_state.h). A request has prompts x choices jobs; job p * choices + c is choice c of prompt p, and its
 * number is the choice's index.
 *
 * A stream of chunks sends, for each choice: a first chunk with the role (chat), at most one chunk for each
 * engine step and kind of text, one last chunk with finish_reason; then the usage if asked for, and
 * [DONE]; those of messages and responses send their events. The joined stream equals the answer that
 * is not streamed, in every field, whatever the protocol.
 *
 * Log-probabilities are those of the content's tokens: the tokens whose text reached `content` (or
 * `text`), in order, each once. Tokens of reasoning, of tool calls, of tags and of removed stop
 * strings have none; nor has reasoning that the client wants joined to the content.
 *
 * Thread: as the request: one worker until stream_open returns, then the loop thread.
 */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include "engine/text/reply.h"
#include "engine/text/vocab.h"
#include "server/request.h"

struct tool_memory;

enum stream_kind { STREAM_CHAT, STREAM_COMPLETION, STREAM_MESSAGES, STREAM_RESPONSES };

struct stream_prompt {
    uint32_t tokens;    // of the prompt
    uint32_t first_id;  // its first token; looked at with echo and logprobs; NO_TOKEN: not shown
    struct slice echo;  // COMPLETION: text that comes before the answer; in the arena
};

struct stream_setup {
    enum stream_kind kind;
    bool include_usage;                  // stream_options.include_usage
    bool deepseek_usage;                 // usage also on the last choice chunk
    bool thinking;                       // reasoning_content is a field of the answer
    bool hide_reasoning;                 // include_reasoning: false
    bool join_reasoning;                 // the content begins with it, between <think> tags
    bool unclosed_is_content;            // a whole answer that ends in reasoning: it is the content
    bool reasoning_both;                 // `reasoning` beside reasoning_content
    bool logprobs;                       // the jobs bring them
    uint32_t top_logprobs;               // alternatives of each token, 0-20
    uint32_t choices;                    // n, of each prompt
    const struct stream_prompt *prompt;  // [prompts]; in the arena
    uint32_t prompts;
    bool functions;                            // CHAT: the call is function_call, and there is one
    bool service_tier;                         // answered as "default"
    struct slice model;                        // the name to answer with; in the arena or static
    uint64_t tenant;                           // whose tool calls these are
    bool no_store;                             // and none of them is kept
    const struct responses_answer *responses;  // RESPONSES (responses_in.h)

    /* What reply_open is to know; its sink is set here. Tools and strings live in the arena or for
     * ever; stop strings are copied. COMPLETION wants start = REPLY_IN_RAW. */
    struct reply_options reply;
};

/* Makes request->reply; request->stream is set already, and the jobs will be prompts x choices.
 * request->service gives vocab, fingerprint and tool memory (which may be NULL). NO_MEMORY leaves
 * request->reply NULL. */
CHECKED enum status stream_open(struct request *request, const struct stream_setup *setup);

/* The handler's callbacks (request.h). */
void stream_start(struct request *request);
void stream_event(struct request *request, uint32_t job, const struct event *event);
void stream_release(struct request *request);

#endif
