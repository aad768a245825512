/* messages_fuzz.c - whatever bytes a model says, the events of a streamed message are well formed and
 * in order, and joined they are the message in one piece. The first bytes choose the shape. */
#include "engine/text/reply_pieces.h"
#include "server/stream_run.h"
#include "server/messages_join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct reply_tool tool = { .name = { "f", 1 } };
    static const struct reply_tools tools = { &tool, 1 };
    static const struct stream_prompt prompt = { .tokens = 9, .first_id = 'P' };
    static const struct slice stop[] = { { "STOP", 4 }, { "\"", 1 } };
    static const enum finish finish[] = { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED,
                                          FINISH_STOP };
    struct buf text, out, whole, streamed;

    if (size < 2) return 0;
    uint8_t flags = data[0];
    struct stream_setup setup = {
        .kind = STREAM_MESSAGES,
        .thinking = flags & 1,
        .choices = 1,
        .prompt = &prompt,
        .prompts = 1,
        .model = SLICE("m\n\"\\"),
        .reply = { .start = flags & 1 ? REPLY_IN_REASONING : REPLY_IN_CONTENT,
                   .tools = flags & 2 ? &tools : NULL,
                   .one_call = flags & 4,
                   .stop = stop,
                   .stop_count = (uint32_t)(flags >> 3 & 3) % 3 },
    };
    struct run run = { .finish = finish[flags >> 5 & 3], .seed = data[1], .cached = 4 };

    buf_init(&text, 0);
    pieces_add(&text, data + 2, size - 2);
    buf_init(&out, 0);
    buf_init(&whole, 0);
    buf_init(&streamed, 0);
    run_reply(run, &setup, buf_slice(&text), &out);
    // the parser that checks takes no NUL in a key, which is good JSON
    bool checked = !memmem(out.data, out.size, "\\u0000", 6);
    if (checked) join_whole(&whole, buf_slice(&out));
    buf_clear(&out);
    run.stream = true;
    run.seed ^= flags;
    run_reply(run, &setup, buf_slice(&text), &out);
    if (checked) join_events(&streamed, buf_slice(&out));
    must(slice_equal(buf_slice(&whole), buf_slice(&streamed)));
    buf_release(&text);
    buf_release(&out);
    buf_release(&whole);
    buf_release(&streamed);
    return 0;
}
