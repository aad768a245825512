/* recall.c - a reply's two faces, and the places of a prompt's earlier replies. */
#include "server/recall.h"
#include "server/jobs.h"

/* ---- prompts ---- */

struct places {
    struct text_alias *alias;
    const struct alias_place *end;  // [prompt->reply_count]
};

static bool take(void *owner, size_t reply, struct id_list *out)
{
    const struct places *places = owner;
    return text_alias_find(places->alias, &places->end[reply], out);
}

/* The text from byte `from` up to a segment. */
static struct slice text_between(const struct prompt *prompt, size_t from, size_t segment)
{
    size_t to =
        segment < prompt->segment_count ? prompt->segment[segment].start : prompt->text.size;
    return (struct slice){ prompt->text.data + from, to - from };
}

/* Fills end[] and leaves the place at the last one; returns the bytes passed. */
static size_t find_places(const struct text_alias *alias, const struct prompt *prompt,
                          struct alias_place *place, struct alias_place *end)
{
    size_t at = 0;

    for (size_t i = 0; i < prompt->reply_count; i++) {
        struct slice context = text_between(prompt, at, prompt->reply[i].from);
        struct slice reply = text_between(prompt, at + context.size, prompt->reply[i].to);
        text_alias_pass(alias, place, context);
        text_alias_pass(alias, place, reply);
        end[i] = *place;
        at += context.size + reply.size;
    }
    return at;
}

/* Where the reply to come begins; NULL: no memory for this help, or there is none to come. */
static struct recall *make_recall(struct request *request, const struct prompt *prompt,
                                  const struct alias_place *place, size_t passed)
{
    size_t begin = text_between(prompt, 0, prompt->next_reply).size;
    struct recall *recall;

    if (prompt->end == PROMPT_COMPLETE || begin < passed) return NULL;
    recall = arena_take(&request->arena, sizeof *recall);
    if (!recall) return NULL;
    *recall = (struct recall){ .place = *place,
                               .in_reasoning = prompt->end == PROMPT_IN_REASONING,
                               .in_block = prompt->end == PROMPT_IN_CALLS };
    text_alias_pass(request->service->text_alias, &recall->place,
                    text_between(prompt, passed, prompt->next_reply));
    recall->lead = arena_copy(&request->arena, slice_from(buf_slice(&prompt->text), begin));
    return recall->lead.data ? recall : NULL;
}

static bool copy_lead(struct request *request, struct recall *recall, const struct id_list *ids,
                      size_t from)
{
    uint32_t *id = arena_array(&request->arena, ids->count - from + 1, sizeof *id);

    if (!id) return false;
    recall->lead_tokens = (uint32_t)(ids->count - from);
    if (recall->lead_tokens) memcpy(id, ids->id + from, recall->lead_tokens * sizeof *id);
    recall->lead_id = id;
    return true;
}

enum status recall_encode(struct request *request, const struct sampling_request *sampling,
                          const struct prompt_encoding *encoding, struct id_list *out,
                          struct prompt_ends *ends)
{
    const struct prompt *prompt = encoding->prompt;
    struct text_alias *alias = request->service->text_alias;
    uint8_t tenant[SHA256_BYTES];
    struct alias_place place;
    size_t before = out->count;

    request->recall = NULL;
    if (!alias) return prompt_encode(encoding, out, ends);
    struct alias_place *end = arena_array(&request->arena, prompt->reply_count + 1, sizeof *end);
    if (!end) return NO_MEMORY;
    jobs_cache_tenant(request, sampling, tenant);
    text_alias_begin(alias, tenant, sampling->salt, &place);
    size_t passed = find_places(alias, prompt, &place, end);

    struct places places = { alias, end };
    const struct prompt_recall recalls = { take, &places };
    struct prompt_encoding with = *encoding;
    with.recall = &recalls;
    enum status status = prompt_encode(&with, out, ends);
    if (status != OK) return status;

    if (sampling->no_store) return OK;
    struct recall *recall = make_recall(request, prompt, &place, passed);
    if (recall && copy_lead(request, recall, out, before + ends->next_reply))
        request->recall = recall;
    return OK;
}

/* ---- replies ---- */

void recall_reply_init(struct recall_reply *reply, const struct recall *recall)
{
    *reply = (struct recall_reply){ .recall = recall, .thinking = recall && recall->in_reasoning };
    id_list_init(&reply->ids, 0);
    buf_init(&reply->said, 0);
    if (!recall) return;
    for (uint32_t i = 0; i < recall->lead_tokens; i++) id_list_add(&reply->ids, recall->lead_id[i]);
    if (!recall->in_block) buf_add_slice(&reply->said, recall->lead);  // a block repeats its opener
}

void recall_reply_release(struct recall_reply *reply)
{
    id_list_release(&reply->ids);
    buf_release(&reply->said);
}

void recall_token(struct recall_reply *reply, uint32_t id)
{
    if (reply->recall) id_list_add(&reply->ids, id);
}

static void close_thinking(struct recall_reply *reply)
{
    if (reply->thinking) buf_add_string(&reply->said, THINK_CLOSE_TEXT);
    reply->thinking = false;
}

void recall_part(struct recall_reply *reply, const struct reply_part *part)
{
    if (!reply->recall) return;
    if (part->kind != REPLY_REASONING) close_thinking(reply);
    if (part->kind == REPLY_REASONING || part->kind == REPLY_CONTENT)
        buf_add_slice(&reply->said, part->text);
}

/* Equal but for newlines. */
static bool same_text(struct slice a, struct slice b)
{
    size_t i = 0, j = 0;

    for (;;) {
        while (i < a.size && a.data[i] == '\n') i++;
        while (j < b.size && b.data[j] == '\n') j++;
        if (i == a.size || j == b.size) return i == a.size && j == b.size;
        if (a.data[i++] != b.data[j++]) return false;
    }
}

/* The text of the ids, without what the prompt already held. */
static void add_written(const struct recall_reply *reply, const struct vocab *vocab,
                        struct buf *out)
{
    buf_add_slice(out, reply->recall->lead);
    for (size_t i = reply->recall->lead_tokens; i < reply->ids.count; i++)
        buf_add_slice(out, vocab_bytes(vocab, reply->ids.id[i]));
}

void recall_keep(struct recall_reply *reply, const struct service *service,
                 const struct reply *from)
{
    struct slice block = reply_block(from);
    uint32_t eos = vocab_find(service->vocab, SLICE(EOS_TEXT));
    struct buf written;

    if (!reply->recall || eos == VOCAB_NONE || (reply_calls(from) && !block.size)) return;
    if (!reply_in_reasoning(from)) close_thinking(reply);
    if (block.size && block.data[0] != '\n') buf_add_string(&reply->said, "\n\n");
    buf_add_slice(&reply->said, block);

    buf_init(&written, 0);
    add_written(reply, service->vocab, &written);
    bool same = buf_status(&written) == OK && buf_status(&reply->said) == OK &&
                same_text(buf_slice(&written), buf_slice(&reply->said));
    buf_release(&written);
    buf_add_string(&reply->said, EOS_TEXT);
    id_list_add(&reply->ids, eos);
    if (!same || buf_status(&reply->said) != OK || id_list_status(&reply->ids) != OK) return;

    struct alias_place place = reply->recall->place;
    text_alias_pass(service->text_alias, &place, buf_slice(&reply->said));
    text_alias_keep(service->text_alias, &place, reply->ids.id, (uint32_t)reply->ids.count);
}
