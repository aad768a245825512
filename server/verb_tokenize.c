/* verb_tokenize.c - `fathomd tokenize`: a tokenizer seen from a shell, one JSON line for each. */
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include "config/json.h"
#include "engine/text/detok.h"
#include "engine/text/tokenizer.h"
#include "server/verbs.h"

#define MOST_LINE_BYTES (64u << 20)

static const char usage[] =
    "usage: fathomd tokenize (--model DIR | --tokenizer FILE) [--literal | --decode] FILE\n"
    "  reads JSON lines from FILE (- is standard input) and writes one line for each:\n"
    "  {\"text\"} -> {\"ids\"}, or with --decode {\"ids\"} -> {\"text\"}\n"
    "  --literal  names of added tokens are ordinary text, as in what a client sends\n";

struct tool {
    const char *path;  // of tokenizer.json
    const char *file;
    bool literal, decode;
    char joined[4096];  // where path is made
    struct vocab vocab;
    struct tokenizer tokenizer;
    struct tokenizer_scratch scratch;
    struct id_list ids;
    struct buf text;
};

static bool read_arguments(struct tool *tool, int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },
        { "tokenizer", required_argument, NULL, 't' },
        { "literal", no_argument, NULL, 'l' },
        { "decode", no_argument, NULL, 'd' },
        { 0 },
    };
    char *own[argc + 2];  // getopt wants the program's name in front
    own[0] = "fathomd tokenize";
    memcpy(own + 1, argv, (size_t)argc * sizeof *argv);
    own[argc + 1] = NULL;

    optind = 0;  // glibc: start afresh
    for (int option; (option = getopt_long(argc + 1, own, "", options, NULL)) != -1;) {
        if (option == 'm') {
            snprintf(tool->joined, sizeof tool->joined, "%s/tokenizer.json", optarg);
            tool->path = tool->joined;
        } else if (option == 't') {
            tool->path = optarg;
        } else if (option == 'l') {
            tool->literal = true;
        } else if (option == 'd') {
            tool->decode = true;
        } else {
            return false;
        }
    }
    if (!tool->path || optind + 1 != argc + 1) return false;
    tool->file = own[optind];
    return true;
}

static enum status encode_line(struct tool *tool, const struct json *line, struct err *err)
{
    const struct json *text = js_get(line, "text");
    if (!text || js_kind(text) != JS_STRING) return fail(err, BAD_INPUT, "text: wanted a string");
    id_list_clear(&tool->ids);
    enum status status = tool->literal ? tokenizer_encode_literal(&tool->tokenizer, &tool->scratch,
                                                                  js_string(text), &tool->ids)
                                       : tokenizer_encode_marked(&tool->tokenizer, &tool->scratch,
                                                                 js_string(text), &tool->ids);
    if (status != OK) return fail(err, status, "the text cannot be tokenized: too long");
    buf_add_string(&tool->text, "{\"ids\": [");
    for (size_t i = 0; i < tool->ids.count; i++)
        buf_addf(&tool->text, "%s%u", i ? ", " : "", tool->ids.id[i]);
    buf_add_string(&tool->text, "]}\n");
    return OK;
}

static enum status decode_line(struct tool *tool, const struct json *line, struct err *err)
{
    const struct json *ids = js_get(line, "ids");
    if (!ids || js_kind(ids) != JS_ARRAY) return fail(err, BAD_INPUT, "ids: wanted an array");
    struct detok detok;
    struct buf plain;
    buf_init(&plain, 0);
    detok_init(&detok, &tool->vocab, DETOK_SHOW_SPECIAL);
    enum status status = OK;
    for (size_t i = 0; i < js_count(ids) && status == OK; i++) {
        const struct json *id = js_at(ids, i);
        if (js_kind(id) != JS_INT || js_int(id) < 0 || js_int(id) >= tool->vocab.size)
            status =
                fail(err, BAD_INPUT, "ids[%zu]: wanted a token id below %u", i, tool->vocab.size);
        else detok_add(&detok, (uint32_t)js_int(id), &plain);
    }
    detok_finish(&detok, &plain);
    if (status == OK) {
        buf_add_string(&tool->text, "{\"text\": ");
        js_add_string(&tool->text, buf_slice(&plain));
        buf_add_string(&tool->text, "}\n");
    }
    buf_release(&plain);
    return status;
}

static enum status run_line(struct tool *tool, char *text, size_t size, struct err *err)
{
    struct json *line;
    if (size > MOST_LINE_BYTES)
        return fail(err, TOO_LONG, "found %zu bytes, wanted at most %u", size, MOST_LINE_BYTES);
    enum status status = js_parse(text, size, &js_file_limits, &line, err);
    if (status != OK) return status;
    buf_clear(&tool->text);
    if (js_kind(line) != JS_OBJECT) status = fail(err, BAD_INPUT, "wanted an object");
    else status = tool->decode ? decode_line(tool, line, err) : encode_line(tool, line, err);
    js_free(line);
    if (status == OK && buf_status(&tool->text) != OK)
        status = fail(err, NO_MEMORY, "no memory for the answer");
    return status;
}

static bool run_lines(struct tool *tool, FILE *file)
{
    struct err err;
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t size;
    bool fine = true;
    while (fine && (size = getline(&line, &room, file)) >= 0) {
        number++;
        if (size == 0 || (size == 1 && line[0] == '\n')) continue;
        fine = run_line(tool, line, (size_t)size, &err) == OK;
        if (!fine) fprintf(stderr, "fathomd tokenize: %s:%zu: %s\n", tool->file, number, err.text);
        else fwrite(tool->text.data, 1, tool->text.size, stdout);
    }
    free(line);
    return fine && !ferror(file) && fflush(stdout) == 0;
}

/* Takes in order, releases in reverse. */
static bool run_file(struct tool *tool)
{
    bool fine = false;
    struct err err = { "no memory" };
    FILE *file = strcmp(tool->file, "-") == 0 ? stdin : fopen(tool->file, "rb");
    if (!file) {
        fprintf(stderr, "fathomd tokenize: %s: %s\n", tool->file, strerror(errno));
        return false;
    }
    id_list_init(&tool->ids, 0);
    buf_init(&tool->text, 0);
    if (vocab_init(&tool->vocab, tool->path, &err) != OK) goto close_file;
    if (tokenizer_init(&tool->tokenizer, &tool->vocab) != OK) goto release_vocab;
    if (tokenizer_scratch_init(&tool->scratch) != OK) goto release_tokenizer;
    err.text[0] = 0;
    fine = run_lines(tool, file);

    buf_release(&tool->text);
    id_list_release(&tool->ids);
    tokenizer_scratch_release(&tool->scratch);
release_tokenizer:
    tokenizer_release(&tool->tokenizer);
release_vocab:
    vocab_release(&tool->vocab);
close_file:
    if (err.text[0]) fprintf(stderr, "fathomd tokenize: %s\n", err.text);
    if (file != stdin) fclose(file);
    return fine;
}

int verb_tokenize(int argc, char **argv)
{
    static struct tool tool;
    if (!read_arguments(&tool, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    return run_file(&tool) ? 0 : 1;
}
