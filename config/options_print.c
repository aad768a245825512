/* options_print.c - the table of options.def for people: help, manual, sample file, what is set. */
#include "config/options_row.h"

/* The table in reading order: headings between rows. */
static const struct line {
    const char *group;  // a heading, or NULL for a row
    enum option_id id;
} lines[] = {
#define GROUP(name) { .group = name },
#define OPTION(kind, field, default_text, range, unit, help) { .id = OPTION_##field },
#include "config/options.def"
#undef OPTION
#undef GROUP
};

enum { LINE_COUNT = sizeof lines / sizeof *lines };

static const char *placeholder(const struct option_row *row)
{
    static const char *const by_kind[] = {
        [KIND_TEXT] = "text", [KIND_INT] = "number", [KIND_REAL] = "number", [KIND_FLAG] = "",
        [KIND_SIZE] = "size", [KIND_TIME] = "time",  [KIND_ENUM] = "word",
    };
    return *row->unit ? row->unit : by_kind[row->kind];
}

void options_add_help(struct buf *out)
{
    buf_add_string(
        out,
        "usage: fathomd [serve] [option ...]\n"
        "       fathomd tokenize|encode|parse|golden|plan|options [option ...] [file]\n"
        "       fathomd cache ls|stat|verify|purge DIR [option ...]\n"
        "       fathomd keys new|list|revoke --file FILE [option ...]\n"
        "       fathomctl COMMAND, or fathomd ctl COMMAND: a daemon that runs\n"
        "       fathomd ctl COMMAND, or fathomctl COMMAND: a running daemon\n"
        "       fathomd health [option ...]\n"
        "\n"
        "Serves a DeepSeek-V4 checkpoint over the OpenAI protocol. Every option may also stand in\n"
        "fathom.ini (name = value) or in the environment (FATHOM_NAME); the command line wins.\n"
        "\n"
        "  -c, --config FILE    read FILE instead of fathom.ini\n"
        "      --check-config   check all options and leave\n"
        "      --print-config   print every option, its value and where that comes from\n"
        "      --version        print the version\n"
        "  -h, --help           print this\n");
    for (size_t i = 0; i < LINE_COUNT; i++) {
        if (lines[i].group) {
            buf_addf(out, "\n%s\n", lines[i].group);
            continue;
        }
        const struct option_row *row = &option_rows[lines[i].id];
        char name[OPTION_NAME_ROOM];
        buf_addf(out, "  --%s %s\n        %s", option_name(row, name),
                 row->kind == KIND_ENUM ? row->range : placeholder(row), row->help);
        if (*row->default_text) buf_addf(out, " [%s]", row->default_text);
        buf_add_byte(out, '\n');
    }
}

/* `|` would end a cell of the table. */
static void add_cell(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') buf_add_byte(out, '\\');
        buf_add_byte(out, *text);
    }
}

void options_add_markdown(struct buf *out)
{
    buf_add_string(
        out, "# Options\n\n"
             "Printed by `fathomd options --markdown` from `config/options.def`; change that, not "
             "this.\n\n"
             "Every option can be given in three places, and each outranks the one before it:\n"
             "`name = value` in `fathom.ini` (or the file of `-c`/`--config FILE`), "
             "`FATHOM_NAME=value` in the\n"
             "environment, `--name value` or `--name=value` on the command line. A flag alone is "
             "true, and\n"
             "`--no-name` makes it false. Sizes take K, M, G, T (powers of 1024), times ms, s, m, "
             "h. What is\n"
             "wrong or unknown stops the daemon at its start (exit code 2) with a sentence that "
             "says where.\n"
             "`fathomd --print-config` shows every value and where it comes from.\n"
             "Those marked *reload* follow a SIGHUP or `fathomctl reload`; the others want a "
             "restart.\n");
    for (size_t i = 0; i < LINE_COUNT; i++) {
        if (lines[i].group) {
            buf_addf(out,
                     "\n## %s\n\n| option | default | values | what it does |\n| --- | --- | --- | "
                     "--- |\n",
                     lines[i].group);
            continue;
        }
        const struct option_row *row = &option_rows[lines[i].id];
        char name[OPTION_NAME_ROOM];
        buf_addf(out, "| `%s` | ", option_name(row, name));
        if (*row->default_text) buf_addf(out, "`%s`", row->default_text);
        buf_add_string(out, " | ");
        struct buf wanted;
        buf_init(&wanted, 0);
        option_add_wanted(row, &wanted);
        if (*row->unit && row->kind != KIND_TEXT) buf_addf(&wanted, " (%s)", row->unit);
        buf_add_byte(&wanted, 0);
        if (buf_status(&wanted) == OK)
            add_cell(out, row->kind == KIND_TEXT ? row->unit : wanted.data);
        buf_release(&wanted);
        buf_add_string(out, " | ");
        add_cell(out, row->help);
        if (option_is_live(lines[i].id)) buf_add_string(out, "; *reload*");
        buf_add_string(out, " |\n");
    }
}

void options_add_ini(struct buf *out)
{
    buf_add_string(
        out, "; Every option of fathomd with its default. Printed by `fathomd options --ini`.\n"
             "; Remove the `;` before a line to change it.\n");
    for (size_t i = 0; i < LINE_COUNT; i++) {
        if (lines[i].group) {
            buf_addf(out, "\n; ---- %s ----\n", lines[i].group);
            continue;
        }
        const struct option_row *row = &option_rows[lines[i].id];
        char name[OPTION_NAME_ROOM];
        buf_addf(out, "\n; %s\n; (", row->help);
        option_add_wanted(row, out);
        if (*row->unit) buf_addf(out, ": %s", row->unit);
        buf_addf(out, ")\n;%s = %s\n", option_name(row, name), row->default_text);
    }
}

void options_add_config(const struct options *options, struct buf *out)
{
    for (size_t i = 0; i < LINE_COUNT; i++) {
        if (lines[i].group) {
            buf_addf(out, "%s; ---- %s ----\n", i ? "\n" : "", lines[i].group);
            continue;
        }
        enum option_id id = lines[i].id;
        struct option_origin origin = options->origin[id];
        char name[OPTION_NAME_ROOM], setting[256];
        snprintf(setting, sizeof setting, "%s = %s", option_name(&option_rows[id], name),
                 options->text[id]);
        buf_addf(out, "%-48s ; ", setting);
        if (origin.source == FROM_FILE) buf_addf(out, "%s:%d", options->config_path, origin.line);
        else if (origin.source == FROM_ENVIRONMENT) buf_add_string(out, "environment");
        else if (origin.source == FROM_COMMAND_LINE) buf_add_string(out, "command line");
        else buf_add_string(out, "default");
        buf_add_byte(out, '\n');
    }
}
