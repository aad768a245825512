/* verb_encode.c - `fathomd encode`: conversations to prompts, one JSON object a line.
 *
 *     {"name", "dialect", "policy", "messages", "tools", "options"}    see engine/text/chat_json.h
 *  -> {"name", "prompt", "stable_bytes", "n_tokens", "ids"}            or {"name", "error"}
 *
 * A line's own dialect and policy win over the options; the checkpoint's config.json decides the
 * dialect when neither names it. Without a tokenizer there are no ids.
 */
#include <errno.h>
#include <getopt.h>
#include "config/json.h"
#include "engine/text/chat_json.h"
#include "engine/text/prompt_ids.h"
#include "server/verbs.h"

#define LINE_BYTES_MOST ((size_t)256 << 20)

struct encoder {
    const struct dialect *dialect;  // NULL = each line names its own
    int policy;                     // enum prompt_policy, or -1 = the dialect's own
    enum prompt_client_text client_text;
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct tokenizer_scratch scratch;
    bool with_ids;
};

static const char usage[] =
    "usage: fathomd encode [--model DIR] [--tokenizer FILE] [--dialect v4|v4-0731|v4.1]\n"
    "                      [--policy reference|service] [--special literal|parse] FILE\n"
    "Prints the prompt (and its token ids) of each line of FILE (- = standard input).\n";

static int policy_named(struct slice name)
{
    for (int policy = PROMPT_REFERENCE; policy <= PROMPT_SERVICE; policy++)
        if (slice_equal(name, slice_of(prompt_policy_name((enum prompt_policy)policy))))
            return policy;
    return -1;
}

/* What the line says over what the command line said. */
static enum status style_of(const struct encoder *encoder, const struct py_node *line,
                            struct prompt_format *style, struct err *err)
{
    const struct py_node *dialect = py_json_get(line, "dialect");
    const struct py_node *policy = py_json_get(line, "policy");
    int chosen = encoder->policy;

    *style = (struct prompt_format){ .dialect = encoder->dialect };
    if (dialect) {
        style->dialect = dialect->kind == JS_STRING ? dialect_named(dialect->text) : NULL;
        if (!style->dialect)
            return fail(err, BAD_INPUT, "dialect: found another value, wanted v4, v4-0731 or v4.1");
    }
    if (!style->dialect)
        return fail(err, BAD_INPUT,
                    "dialect: found none, wanted one in the line, by --dialect or "
                    "from --model");
    if (policy) {
        chosen = policy->kind == JS_STRING ? policy_named(policy->text) : -1;
        if (chosen < 0)
            return fail(err, BAD_INPUT, "policy: found another value, wanted reference or service");
    }
    style->policy = chosen < 0 ? prompt_default_policy(style->dialect) : (enum prompt_policy)chosen;
    return OK;
}

static enum status add_ids(struct encoder *encoder, const struct prompt *prompt, struct buf *out,
                           struct err *err)
{
    struct id_list ids;
    struct prompt_ends ends;
    const struct prompt_encoding encoding = { .prompt = prompt,
                                              .client_text = encoder->client_text,
                                              .tokenizer = &encoder->tokenizer,
                                              .scratch = &encoder->scratch };

    id_list_init(&ids, 0);
    enum status status = prompt_encode(&encoding, &ids, &ends);
    if (status != OK) fail(err, status, "the prompt cannot be tokenized");
    buf_addf(out, ", \"n_tokens\": %zu, \"stable_tokens\": %zu, \"ids\": [", ids.count,
             ends.stable);
    for (size_t i = 0; i < ids.count; i++) buf_addf(out, i ? ", %u" : "%u", ids.id[i]);
    buf_add_byte(out, ']');
    id_list_release(&ids);
    return status;
}

static enum status encode(struct encoder *encoder, struct arena *arena, const struct py_node *line,
                          struct buf *out, struct err *err)
{
    struct chat chat;
    struct prompt_format style;
    struct prompt prompt;
    enum status status;

    if ((status = chat_from_json(arena, line, &chat, err)) != OK) return status;
    if ((status = style_of(encoder, line, &style, err)) != OK) return status;
    status = prompt_render(&prompt, &chat, &style, err);
    if (status == OK) {
        buf_add_string(out, "\"prompt\": ");
        js_add_string(out, buf_slice(&prompt.text));
        buf_addf(out, ", \"stable_bytes\": %zu", prompt.stable_bytes);
        if (encoder->with_ids) status = add_ids(encoder, &prompt, out, err);
    }
    prompt_release(&prompt);
    return status;
}

static enum status encode_line(struct encoder *encoder, struct slice text, struct buf *out)
{
    struct arena arena;
    struct py_node *line = NULL;
    struct err err = { "" };

    arena_init(&arena, 0);
    buf_clear(out);
    buf_add_byte(out, '{');
    enum status status = py_json_parse(&arena, text, &line, &err);
    if (status == OK && line->kind == JS_OBJECT) {
        const struct py_node *name = py_json_get(line, "name");
        if (name) {
            buf_add_string(out, "\"name\": ");
            py_json_add(out, name);
            buf_add_string(out, ", ");
        }
    }
    size_t before = out->size;
    if (status == OK) status = encode(encoder, &arena, line, out, &err);
    if (status != OK) {
        out->size = before;
        buf_add_string(out, "\"error\": ");
        js_add_string(out, slice_of(err.text));
    }
    buf_add_string(out, "}\n");
    arena_release(&arena);
    return buf_status(out) == OK ? status : buf_status(out);
}

/* Every line, also after one that failed. Returns the exit code. */
static int encode_file(struct encoder *encoder, FILE *file)
{
    struct buf line, out;
    int code = 0;

    buf_init(&line, LINE_BYTES_MOST);
    buf_init(&out, 0);
    for (int c = 0; c != EOF;) {
        buf_clear(&line);
        while ((c = getc(file)) != EOF && c != '\n') buf_add_byte(&line, (char)c);
        if (!line.size && buf_status(&line) == OK) continue;
        if (buf_status(&line) != OK) {
            fprintf(stderr, "fathomd encode: a line is longer than %zu bytes\n", LINE_BYTES_MOST);
            code = 1;
            break;
        }
        if (encode_line(encoder, buf_slice(&line), &out) != OK) code = 1;
        fwrite(out.data, 1, out.size, stdout);
    }
    buf_release(&out);
    buf_release(&line);
    return fflush(stdout) == 0 ? code : 1;
}

static enum status open_dialect(struct encoder *encoder, const char *model, struct err *err)
{
    char path[4096];
    struct json *config;
    const char *why = "";

    snprintf(path, sizeof path, "%s/config.json", model);
    enum status status = js_read_file(path, (size_t)16 << 20, &config, err);
    if (status != OK) return status;
    status = dialect_detect(config, &encoder->dialect, &why, err);
    js_free(config);
    if (status == OK) fprintf(stderr, "dialect=%s why=\"%s\"\n", encoder->dialect->name, why);
    return status;
}

static enum status open_tokenizer(struct encoder *encoder, const char *path, struct err *err)
{
    enum status status = vocab_init(&encoder->vocab, path, err);
    if (status != OK) return status;
    if ((status = tokenizer_init(&encoder->tokenizer, &encoder->vocab)) != OK) goto release_vocab;
    if ((status = tokenizer_scratch_init(&encoder->scratch)) != OK) goto release_tokenizer;
    encoder->with_ids = true;
    return OK;

release_tokenizer:
    tokenizer_release(&encoder->tokenizer);
release_vocab:
    vocab_release(&encoder->vocab);
    return fail(err, status, "%s: no memory for the tokenizer", path);
}

static int wrong_use(const char *what)
{
    fprintf(stderr, "fathomd encode: %s\n%s", what, usage);
    return 2;
}

struct arguments {
    const char *model, *tokenizer, *file;
};

/* 0, or the exit code. */
static int read_arguments(int argc, char **argv, struct arguments *arguments,
                          struct encoder *encoder)
{
    static const struct option known[] = {
        { "model", required_argument, NULL, 'm' },
        { "tokenizer", required_argument, NULL, 't' },
        { "dialect", required_argument, NULL, 'd' },
        { "policy", required_argument, NULL, 'p' },
        { "special", required_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    char **from_verb = argv - 1;  // getopt skips the first word: here the verb itself
    optind = 0;
    for (int option; (option = getopt_long(argc + 1, from_verb, "", known, NULL)) != -1;) {
        struct slice value = slice_of(optarg);
        switch (option) {
        case 'm':
            arguments->model = optarg;
            break;
        case 't':
            arguments->tokenizer = optarg;
            break;
        case 'd':
            if (!(encoder->dialect = dialect_named(value)))
                return wrong_use("--dialect: wanted v4, v4-0731 or v4.1");
            break;
        case 'p':
            if ((encoder->policy = policy_named(value)) < 0)
                return wrong_use("--policy: wanted reference or service");
            break;
        case 's':
            if (!slice_equal(value, SLICE("literal")) && !slice_equal(value, SLICE("parse")))
                return wrong_use("--special: wanted literal or parse");
            encoder->client_text =
                slice_equal(value, SLICE("parse")) ? PROMPT_PARSE : PROMPT_LITERAL;
            break;
        case 'h':
            fputs(usage, stdout);
            return -1;
        default:
            return wrong_use("an option is unknown");
        }
    }
    if (optind != argc) return wrong_use("wanted one FILE");
    arguments->file = from_verb[optind];
    return 0;
}

int verb_encode(int argc, char **argv)
{
    struct encoder encoder = { .policy = -1, .client_text = PROMPT_PARSE };
    struct arguments arguments = { 0 };
    struct err err = { "" };
    char path[4096];
    int code = read_arguments(argc, argv, &arguments, &encoder);
    if (code) return code < 0 ? 0 : code;

    enum status status = OK;
    if (arguments.model && !encoder.dialect) status = open_dialect(&encoder, arguments.model, &err);
    if (arguments.model && !arguments.tokenizer) {
        snprintf(path, sizeof path, "%s/tokenizer.json", arguments.model);
        arguments.tokenizer = path;
    }
    if (status == OK && arguments.tokenizer)
        status = open_tokenizer(&encoder, arguments.tokenizer, &err);
    FILE *file = NULL;
    if (status == OK) {
        bool standard = strcmp(arguments.file, "-") == 0;
        file = standard ? stdin : fopen(arguments.file, "rb");
        if (!file) status = fail(&err, IO_FAILED, "%s: %s", arguments.file, strerror(errno));
    }
    if (status != OK) fprintf(stderr, "fathomd encode: %s\n", err.text);
    else code = encode_file(&encoder, file);

    if (file && file != stdin) fclose(file);
    if (encoder.with_ids) {
        tokenizer_scratch_release(&encoder.scratch);
        tokenizer_release(&encoder.tokenizer);
        vocab_release(&encoder.vocab);
    }
    return status == OK ? code : 1;
}
