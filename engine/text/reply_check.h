/* reply_check.h - for the parser's tests and its fuzzer: feeds a text in some cutting and joins what
 * comes out, watching the rules that every stream of parts keeps. */
#ifndef ENGINE_TEXT_REPLY_CHECK_H
#define ENGINE_TEXT_REPLY_CHECK_H

#include "config/utf8.h"
#include "engine/text/reply.h"

struct reading {
    struct buf reasoning, content;
    struct buf calls;  // name and arguments, "; " between calls
    struct buf block;
    uint32_t started, ended;  // calls
    enum reply_part_kind last;
    enum reply_finish finish;
    bool unclosed_reasoning, ended_early;
};

static void reading_take(void *owner, const struct reply_part *part)
{
    struct reading *r = owner;
    bool of_call = part->kind >= REPLY_CALL_START;

    must(utf8_valid(part->text));
    must(part->kind == REPLY_CALL_END || part->kind == REPLY_CALL_START || part->text.size > 0);
    must(part->kind >= r->last || of_call);  // reasoning, then content, then calls
    must(!of_call || part->call + (part->kind == REPLY_CALL_START ? 0 : 1) == r->started);
    must(part->kind != REPLY_CALL_START || r->started == r->ended);
    must(part->kind <= REPLY_CALL_START || r->started == r->ended + 1);
    r->last = part->kind;

    if (part->kind == REPLY_REASONING) buf_add_slice(&r->reasoning, part->text);
    if (part->kind == REPLY_CONTENT) buf_add_slice(&r->content, part->text);
    if (part->kind == REPLY_CALL_START) {
        if (r->started++) buf_add_string(&r->calls, "; ");
        buf_add_slice(&r->calls, part->text);
        buf_add_byte(&r->calls, ' ');
    }
    if (part->kind == REPLY_CALL_ARGS) buf_add_slice(&r->calls, part->text);
    if (part->kind == REPLY_CALL_END) r->ended++;
}

static uint64_t cut_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* cut = 0: whole; 1: one byte at a time; more: random pieces from that seed. */
static void reading_make(struct reading *r, const struct reply_options *options, struct slice text,
                         uint64_t cut, bool by_length)
{
    struct reply_options own = *options;
    struct reply *reply;
    uint64_t random = cut * 0x9e3779b97f4a7c15ull + 1;

    *r = (struct reading){ .last = REPLY_REASONING };
    buf_init(&r->reasoning, 0);
    buf_init(&r->content, 0);
    buf_init(&r->calls, 0);
    buf_init(&r->block, 0);
    own.sink = (struct reply_sink){ reading_take, r };
    must(reply_open(&own, &reply) == OK);
    while (text.size) {
        size_t size = cut == 0 ? text.size : cut == 1 ? 1 : 1 + cut_random(&random) % 9;
        if (size > text.size) size = text.size;
        must(reply_feed(reply, (struct slice){ text.data, size }) == OK);
        text = slice_from(text, size);
    }
    r->ended_early = reply_ended(reply);
    must(reply_finish(reply, by_length, &r->finish) == OK);
    must(r->finish != REPLY_FINISH_TOOL_CALLS || r->started > 0);
    must(r->finish != REPLY_FINISH_LENGTH || by_length);
    must(r->finish == REPLY_FINISH_LENGTH || r->started == r->ended);
    must(r->started == reply_calls(reply));
    r->unclosed_reasoning = reply_in_reasoning(reply);
    buf_add_slice(&r->block, reply_block(reply));
    reply_close(reply);
}

static void reading_release(struct reading *r)
{
    buf_release(&r->reasoning);
    buf_release(&r->content);
    buf_release(&r->calls);
    buf_release(&r->block);
}

static bool reading_equal(const struct reading *a, const struct reading *b)
{
    return slice_equal(buf_slice(&a->reasoning), buf_slice(&b->reasoning)) &&
           slice_equal(buf_slice(&a->content), buf_slice(&b->content)) &&
           slice_equal(buf_slice(&a->calls), buf_slice(&b->calls)) &&
           slice_equal(buf_slice(&a->block), buf_slice(&b->block)) && a->finish == b->finish &&
           a->ended == b->ended && a->ended_early == b->ended_early &&
           a->unclosed_reasoning == b->unclosed_reasoning;
}

#endif
