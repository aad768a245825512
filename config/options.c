/* options.c - reads the four places in order; inih's one door. */
#include "config/options.h"
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <unistd.h>
#include "config/options_row.h"

#define DEFAULT_FILE "fathom.ini"  // read from the current directory when it is there

/* What is under way while the places are read. */
struct reading {
    struct options *options;
    const struct options_input *input;
    const char *path;  // the file being read
    int line;          // of that file; the line inih looks at
    bool line_too_long;
    enum status status;
    struct err *err;
};

/* Stores one value with its origin. err says where it was found. */
static enum status set(struct reading *reading, const struct option_row *row, const char *text,
                       struct option_origin origin, const char *place)
{
    struct options *options = reading->options;
    size_t id = (size_t)(row - option_rows);
    struct err inner;
    char *copy = strdup(text);
    if (!copy) return fail(reading->err, NO_MEMORY, "no memory for the options");

    enum status status = option_read(row, copy, options, &inner);
    if (status != OK) {
        free(copy);
        return fail(reading->err, status, "%s%s", place, inner.text);
    }
    free(options->text[id]);
    options->text[id] = copy;
    options->origin[id] = origin;
    return OK;
}

static enum status refuse_unknown(struct reading *reading, struct slice name, const char *place)
{
    char nearest[OPTION_NAME_ROOM];
    const struct option_row *row = option_nearest(name);
    return fail(reading->err, BAD_INPUT, "%sunknown option \"%.*s\"%s%s%s", place,
                (int)(name.size < 80 ? name.size : 80), name.data, row ? "; did you mean " : "",
                row ? option_name(row, nearest) : "", row ? "?" : "");
}

static enum status read_defaults(struct reading *reading)
{
    for (size_t row = 0; row < OPTION_COUNT; row++) {
        struct option_origin origin = { FROM_DEFAULT, 0 };
        enum status status =
            set(reading, &option_rows[row], option_rows[row].default_text, origin, "");
        if (status != OK) return status;
    }
    return OK;
}

/* inih's reader: one line, counted, because inih itself does not tell its handler the number. */
static char *next_line(char *line, int room, void *user)
{
    struct {
        FILE *file;
        struct reading *reading;
    } *from = user;
    if (!fgets(line, room, from->file)) return NULL;
    from->reading->line++;
    if (!strchr(line, '\n') && !feof(from->file)) from->reading->line_too_long = true;
    return line;
}

static int take_pair(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    char place[PATH_MAX + 32];
    snprintf(place, sizeof place, "%s:%d: ", reading->path, reading->line);
    const struct option_row *row = option_find(slice_of(name));

    if (reading->status != OK) return 1;
    if (*section)
        reading->status =
            fail(reading->err, BAD_INPUT, "%sfound section [%s], wanted none", place, section);
    else if (!row) reading->status = refuse_unknown(reading, slice_of(name), place);
    else if (reading->options->origin[row - option_rows].source == FROM_FILE)
        reading->status = fail(reading->err, BAD_INPUT, "%s%s is given twice, first in line %d",
                               place, name, reading->options->origin[row - option_rows].line);
    else
        reading->status =
            set(reading, row, value, (struct option_origin){ FROM_FILE, reading->line }, place);
    return 1;
}

/* Reads `path`, which must exist when `wanted`. */
static enum status read_file(struct reading *reading, const char *path, bool wanted)
{
    struct {
        FILE *file;
        struct reading *reading;
    } from = { fopen(path, "r"), reading };
    if (!from.file && !wanted && errno == ENOENT) return OK;
    if (!from.file) return fail(reading->err, IO_FAILED, "%s: %s", path, strerror(errno));

    reading->path = path;
    int bad_line = ini_parse_stream(next_line, &from, take_pair, reading);
    bool broken = ferror(from.file) != 0;
    fclose(from.file);
    if (broken) return fail(reading->err, IO_FAILED, "%s: %s", path, strerror(EISDIR));
    if (reading->line_too_long)
        return fail(reading->err, BAD_INPUT, "%s: a line is longer than inih reads (%d bytes)",
                    path, INI_MAX_LINE);
    if (reading->status != OK) return reading->status;
    if (bad_line)
        return fail(reading->err, BAD_INPUT, "%s:%d: found neither `name = value` nor a comment",
                    path, bad_line);
    reading->options->config_path = strdup(path);
    return reading->options->config_path ? OK : fail(reading->err, NO_MEMORY, "no memory");
}

/* FATHOM_MAX_SEQS is max-seqs. Names that are no option are left alone: other programs of the
 * family, and orchestrators that announce services, put FATHOM_... names there too. */
static enum status read_environment(struct reading *reading)
{
    for (char **entry = reading->input->env; entry && *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        if (strncmp(*entry, "FATHOM_", 7) || !equals) continue;
        char name[OPTION_NAME_ROOM], place[OPTION_NAME_ROOM + 32];
        size_t size = (size_t)(equals - *entry) - 7;
        if (size >= sizeof name) continue;
        for (size_t i = 0; i < size; i++) name[i] = (char)tolower((unsigned char)(*entry)[7 + i]);
        name[size] = 0;

        const struct option_row *row = option_find(slice_of(name));
        if (!row) continue;
        snprintf(place, sizeof place, "environment variable %.*s: ", (int)size + 7, *entry);
        enum status status =
            set(reading, row, equals + 1, (struct option_origin){ FROM_ENVIRONMENT, 0 }, place);
        if (status != OK) return status;
    }
    return OK;
}

static bool take_ask(const char *argument, struct options *options)
{
    static const struct {
        const char *name;
        enum options_ask ask;
    } asks[] = {
        { "--help", ASK_HELP },
        { "-h", ASK_HELP },
        { "--version", ASK_VERSION },
        { "--print-config", ASK_PRINT_CONFIG },
        { "--check-config", ASK_CHECK_CONFIG },
    };
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        if (strcmp(argument, asks[i].name)) continue;
        options->ask = asks[i].ask;
        return true;
    }
    return false;
}

/* One argument that starts with a dash, split at its `=`. */
struct argument {
    struct slice name;   // without dashes in front
    const char *value;   // after `=`, or NULL
    const char *follow;  // the next argument, or NULL
};

static const struct option_extra *find_extra(const struct options_input *input, struct slice name)
{
    for (const struct option_extra *extra = input->extra; extra && extra->name; extra++)
        if (slice_equal(slice_of(extra->name), name)) return extra;
    return NULL;
}

/* *used: how many arguments were read, 1 or 2. */
static enum status take_argument(struct reading *reading, const struct argument *argument,
                                 int *used)
{
    static const struct option_origin here = { FROM_COMMAND_LINE, 0 };
    struct slice name = argument->name;
    const struct option_extra *extra = find_extra(reading->input, name);
    const struct option_row *row = extra ? NULL : option_find(name);
    const char *value = argument->value;
    bool off = !row && !extra && slice_starts(name, SLICE("no-")) && !value;

    *used = 1;
    if (off) row = option_find(slice_from(name, 3));
    if (!extra && (!row || (off && row->kind != KIND_FLAG)))
        return refuse_unknown(reading, name, "command line: ");
    if (row && row->kind == KIND_FLAG && !value) value = off ? "false" : "true";
    if (!value) {
        value = argument->follow;
        *used = 2;
    }
    if (!value)
        return fail(reading->err, BAD_INPUT, "command line: --%.*s needs a value", (int)name.size,
                    name.data);
    if (row) return set(reading, row, value, here, "command line: ");
    *extra->value = value;
    return OK;
}

static struct argument split_argument(char **argv, int argc, int at)
{
    const char *name = argv[at] + 2, *equals = strchr(name, '=');
    return (struct argument){
        .name = { name, equals ? (size_t)(equals - name) : strlen(name) },
        .value = equals ? equals + 1 : NULL,
        .follow = at + 1 < argc ? argv[at + 1] : NULL,
    };
}

/* The argument of -c or --config at `at`, or NULL. *used: arguments it takes. */
static const char *config_argument(const struct options_input *input, int at, int *used)
{
    const char *argument = input->argv[at];
    *used = 1;
    if (strncmp(argument, "--config=", 9) == 0) return argument + 9;
    if (strcmp(argument, "-c") && strcmp(argument, "--config")) return NULL;
    *used = 2;
    return at + 1 < input->argc ? input->argv[at + 1] : "";
}

static enum status read_command_line(struct reading *reading)
{
    const struct options_input *input = reading->input;
    struct options *options = reading->options;
    options->rest = calloc((size_t)input->argc + 1, sizeof *options->rest);
    if (!options->rest) return fail(reading->err, NO_MEMORY, "no memory for the options");

    bool only_rest = false;
    for (int at = 0, used; at < input->argc; at += used) {
        char *argument = input->argv[at];
        used = 1;
        if (only_rest || argument[0] != '-' || !argument[1]) {
            options->rest[options->rest_count++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            only_rest = true;
        } else if (config_argument(input, at, &used) || take_ask(argument, options)) {
            continue;
        } else if (argument[1] != '-') {
            return refuse_unknown(reading, slice_of(argument), "command line: ");
        } else {
            struct argument split = split_argument(input->argv, input->argc, at);
            enum status status = take_argument(reading, &split, &used);
            if (status != OK) return status;
        }
    }
    return OK;
}

/* The file has to be known before the command line, which outranks it, is read. */
static enum status read_named_file(struct reading *reading)
{
    const struct options_input *input = reading->input;
    const char *path = NULL;
    for (int at = 0, used; at < input->argc && strcmp(input->argv[at], "--"); at++) {
        const char *found = config_argument(input, at, &used);
        if (found && path)
            return fail(reading->err, BAD_INPUT, "command line: --config is given twice");
        if (found) path = found;
    }
    for (char **entry = input->env; !path && entry && *entry; entry++)
        if (strncmp(*entry, "FATHOM_CONFIG=", 14) == 0) path = *entry + 14;
    if (path && !*path)
        return fail(reading->err, BAD_INPUT, "command line: --config needs a file name");
    return read_file(reading, path ? path : DEFAULT_FILE, path != NULL);
}

/* The pilot model of the source tree, from build/, or of an installation, from bin/. */
static enum status find_default_model(struct reading *reading)
{
    static const char *const places[] = { "/../models/pilot", "/../share/fathom/models/pilot" };
    struct options *options = reading->options;
    char program[PATH_MAX], path[PATH_MAX + 64];
    if (options->origin[OPTION_model].source != FROM_DEFAULT) return OK;
    if (access(options->model, R_OK) == 0) return OK;

    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (size <= 0) return OK;
    program[size] = 0;
    *strrchr(program, '/') = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s%s", program, places[i]);
        if (access(path, R_OK)) continue;
        return set(reading, &option_rows[OPTION_model], path,
                   (struct option_origin){ FROM_DEFAULT, 0 }, "");
    }
    return OK;
}

enum status options_read(const struct options_input *input, struct options *options,
                         struct err *err)
{
    *options = (struct options){ 0 };
    struct reading reading = { .options = options, .input = input, .err = err };
    enum status status = read_defaults(&reading);
    if (status == OK) status = read_named_file(&reading);
    if (status == OK) status = read_environment(&reading);
    if (status == OK) status = read_command_line(&reading);
    if (status == OK) status = find_default_model(&reading);
    if (status != OK) options_release(options);
    return status;
}

enum status options_load(int argc, char **argv, struct options *options, struct err *err)
{
    return options_read(&(struct options_input){ .argc = argc, .argv = argv, .env = environ },
                        options, err);
}

void options_release(struct options *options)
{
    for (size_t row = 0; row < OPTION_COUNT; row++) free(options->text[row]);
    free(options->config_path);
    free(options->rest);
    *options = (struct options){ 0 };
}

bool options_next_item(const char **rest, struct slice *item)
{
    const char *at = *rest + strspn(*rest, ", \t");
    size_t size = strcspn(at, ",");
    *rest = at + size;
    while (size && isspace((unsigned char)at[size - 1])) size--;
    *item = (struct slice){ at, size };
    return size > 0;
}
