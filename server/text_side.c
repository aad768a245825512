/* text_side.c - three files of the checkpoint, and the options that say more than they do. */
#include "config/json.h"
#include "config/log.h"
#include "server/text_side.h"

#define CONFIG_MOST_BYTES ((size_t)16 << 20)

static void path_in(char path[4096], const struct options *options, const char *file)
{
    snprintf(path, 4096, "%s/%s", options->model, file);
}

/* The served name: the option's, or the directory's last part. */
static void set_name(struct text_side *side, const struct options *options)
{
    const char *name = options->served_model_name;
    char *resolved = name[0] ? NULL : realpath(options->model, NULL);

    if (!name[0]) {
        name = resolved ? resolved : options->model;
        const char *slash = strrchr(name, '/');
        if (slash && slash[1]) name = slash + 1;
    }
    size_t size = strnlen(name, sizeof side->model_name - 1);
    memcpy(side->model_name, name, size);
    side->model_name[size] = 0;
    free(resolved);
}

static enum status set_format(struct text_side *side, const struct options *options,
                              const struct json *config, struct err *err)
{
    static const enum dialect_id ids[] = { [OPT_DIALECT_V4] = DIALECT_V4,
                                           [OPT_DIALECT_V4_0731] = DIALECT_V4_0731,
                                           [OPT_DIALECT_V4_1] = DIALECT_V41 };
    const char *why = "option";
    struct prompt_format *format = &side->format;
    enum status status = OK;

    if (options->dialect != OPT_DIALECT_AUTO) format->dialect = dialect_of(ids[options->dialect]);
    else status = dialect_detect(config, &format->dialect, &why, err);
    if (status != OK) return status;
    format->policy = options->policy == OPT_POLICY_REFERENCE ? PROMPT_REFERENCE
                     : options->policy == OPT_POLICY_SERVICE
                         ? PROMPT_SERVICE
                         : prompt_default_policy(format->dialect);
    format->most_bytes = options->body_limit_bytes * 4;  // what no body can grow to

    struct log_line line;
    log_begin(&line, OPT_LOG_LEVEL_INFO, "dialect");
    log_text(&line, "dialect", slice_of(format->dialect->name));
    log_text(&line, "why", slice_of(why));
    log_text(&line, "policy", slice_of(prompt_policy_name(format->policy)));
    log_end(&line);
    return OK;
}

static enum status read_config(struct text_side *side, const struct options *options,
                               struct err *err)
{
    char path[4096];
    struct json *config;

    path_in(path, options, "config.json");
    enum status status = js_read_file(path, CONFIG_MOST_BYTES, &config, err);
    if (status != OK) return status;
    const struct json *positions =
        js_kind(config) == JS_OBJECT ? js_get(config, "max_position_embeddings") : NULL;
    if (!positions || js_kind(positions) != JS_INT || js_int(positions) < 1 ||
        js_int(positions) > UINT32_MAX)
        status =
            fail(err, BAD_INPUT, "%s: max_position_embeddings: wanted a positive integer", path);
    else side->model_context = (uint32_t)js_int(positions);
    if (status == OK) status = set_format(side, options, config, err);
    js_free(config);
    return status;
}

enum status text_side_open(struct text_side *side, const struct options *options, struct err *err)
{
    char path[4096];
    enum status status;

    *side = (struct text_side){ 0 };
    set_name(side, options);
    if ((status = read_config(side, options, err)) != OK) return status;
    if ((status = generation_read(options->model, &side->generation, err)) != OK) return status;
    path_in(path, options, "tokenizer.json");
    if ((status = vocab_init(&side->vocab, path, err)) != OK) return status;
    if ((status = tokenizer_init(&side->tokenizer, &side->vocab)) != OK) {
        vocab_release(&side->vocab);
        return fail(err, status, "%s: no memory for the tokenizer", path);
    }
    return OK;
}

void text_side_release(struct text_side *side)
{
    tokenizer_release(&side->tokenizer);
    vocab_release(&side->vocab);
}
