/* options.h - what the process is told: one flat table (options.def), read from four places.
 *
 *     built-in  <  file (fathom.ini)  <  environment (FATHOM_NAME)  <  command line (--name value)
 *
 * Each place replaces the values of the one before it. The result is `const` from then on, so every
 * thread may read it. A value that is wrong anywhere is refused with a sentence that names the place.
 */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "config/buf.h"
#include "config/slice.h"
#include "config/status.h"

#define FATHOM_VERSION "0.1.0"

enum dialect_option { OPT_DIALECT_AUTO, OPT_DIALECT_V4, OPT_DIALECT_V4_0731, OPT_DIALECT_V4_1 };
enum policy_option { OPT_POLICY_AUTO, OPT_POLICY_REFERENCE, OPT_POLICY_SERVICE };
enum backend_option { OPT_BACKEND_AUTO, OPT_BACKEND_CPU, OPT_BACKEND_CUDA, OPT_BACKEND_SCRIPTED };
enum numerics_option { OPT_NUMERICS_OFFICIAL, OPT_NUMERICS_EXACT };
enum isa_option { OPT_ISA_AUTO, OPT_ISA_PLAIN, OPT_ISA_AVX2, OPT_ISA_AVX512 };
enum thinking_sampling_option { OPT_THINKING_SAMPLING_FIXED, OPT_THINKING_SAMPLING_HONOUR };
enum reasoning_field_option { OPT_REASONING_FIELD_CONTENT, OPT_REASONING_FIELD_BOTH };
enum server_tools_option { OPT_SERVER_TOOLS_DROP, OPT_SERVER_TOOLS_REFUSE };
enum unclosed_reasoning_option { OPT_UNCLOSED_REASONING_REASONING, OPT_UNCLOSED_REASONING_CONTENT };
enum special_tokens_in_content_option { OPT_SPECIAL_TOKENS_LITERAL, OPT_SPECIAL_TOKENS_PARSE };
enum cache_replay_option { OPT_CACHE_REPLAY_EXACT, OPT_CACHE_REPLAY_OFF };
enum ui_option { OPT_UI_AUTO, OPT_UI_ON, OPT_UI_OFF };
enum metrics_compat_option { OPT_METRICS_COMPAT_NONE, OPT_METRICS_COMPAT_VLLM };
enum log_level_option {
    OPT_LOG_LEVEL_ERROR,
    OPT_LOG_LEVEL_WARN,
    OPT_LOG_LEVEL_INFO,
    OPT_LOG_LEVEL_DEBUG
};
enum sandbox_option { OPT_SANDBOX_AUTO, OPT_SANDBOX_ON, OPT_SANDBOX_OFF };
enum log_format_option { OPT_LOG_FORMAT_JSON, OPT_LOG_FORMAT_TEXT };

enum option_source { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

struct option_origin {
    enum option_source source;
    int line;  // of the file, or 0
};

/* What the command line asks for besides serving. */
enum options_ask { ASK_RUN, ASK_HELP, ASK_VERSION, ASK_PRINT_CONFIG, ASK_CHECK_CONFIG };

#define FIELD_TEXT(field) const char *field;
#define FIELD_INT(field) int64_t field;
#define FIELD_REAL(field) double field;
#define FIELD_FLAG(field) bool field;
#define FIELD_SIZE(field) uint64_t field##_bytes;
#define FIELD_TIME(field) uint64_t field##_ns;
#define FIELD_ENUM(field) enum field##_option field;

enum option_id {
#define GROUP(name)
#define OPTION(kind, field, default_text, range, unit, help) OPTION_##field,
#include "config/options.def"
#undef OPTION
    OPTION_COUNT,
};

struct options {
#define OPTION(kind, field, default_text, range, unit, help) FIELD_##kind(field)
#include "config/options.def"
#undef OPTION
#undef GROUP
    enum options_ask ask;
    int rest_count;                             // arguments that are no options, in order
    char **rest;                                // owned array; its strings are the caller's argv
    char *config_path;                          // owned; the file that was read, or NULL
    struct option_origin origin[OPTION_COUNT];  // where each value comes from
    char *text[OPTION_COUNT];                   // owned; the value as it was written
};

/* One more option of a single verb (`--chunk N`), outside the table: *value receives the argument
 * and stays as it is when the option is absent. A list ends with a NULL name. */
struct option_extra {
    const char *name;  // with dashes, without the leading two
    const char **value;
};

struct options_input {
    int argc;  // without the program's name
    char **argv;
    char **env;  // NULL-terminated
    const struct option_extra *extra;
};

/* Reads all four places. BAD_INPUT, IO_FAILED, NO_MEMORY: err holds a sentence, and nothing is left
 * to release. Otherwise pair with options_release. The default model is also looked for beside the
 * program: DIR/../models/pilot and DIR/../share/fathom/models/pilot. */
CHECKED enum status options_load(int argc, char **argv, struct options *options, struct err *err);
CHECKED enum status options_read(const struct options_input *input, struct options *options,
                                 struct err *err);
void options_release(struct options *options);

/* What a reload may change while the daemon runs. */
bool option_is_live(enum option_id id);
bool option_differs(const struct options *a, const struct options *b, enum option_id id);

/* Gives `to` the value of `from`, which gets the old one: release both as ever. */
void option_exchange(struct options *to, struct options *from, enum option_id id);

void option_add_title(enum option_id id, struct buf *out);  // "log-level"

/* The table for people. The first three need no loaded options. */
void options_add_help(struct buf *out);                                   // --help
void options_add_markdown(struct buf *out);                               // docs/OPTIONS.md
void options_add_ini(struct buf *out);                                    // config/sample.ini
void options_add_config(const struct options *options, struct buf *out);  // --print-config

/* The next item of a text with commas, without the white space around it; empty items are left out.
 * const char *rest = options->cors_origin; while (options_next_item(&rest, &item)) ... */
bool options_next_item(const char **rest, struct slice *item);

#endif
