/* fixed_schema.c - two of them. */
#include "server/fixed_schema.h"
#include <pthread.h>

static const char *const text[FIXED_SCHEMAS] = {
    [FIXED_NO_PARAMETERS] = "{\"type\": \"object\", \"properties\": {}}",
    [FIXED_CUSTOM_INPUT] =
        "{\"type\": \"object\", \"properties\": {\"" CUSTOM_INPUT
        "\": {\"type\": \"string\", \"description\": \"The whole text that the tool takes, as it "
        "is\"}}, \"required\": [\"" CUSTOM_INPUT "\"]}",
};

static struct json *parsed[FIXED_SCHEMAS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void parse_all(void)
{
    for (int i = 0; i < FIXED_SCHEMAS; i++) {
        char *copy = strdup(text[i]);
        if (!copy) continue;
        if (js_parse(copy, strlen(copy), &js_file_limits, &parsed[i], NULL) != OK) parsed[i] = NULL;
        free(copy);
    }
}

struct slice fixed_schema_text(enum fixed_schema which)
{
    return slice_of(text[which]);
}

const struct json *fixed_schema(enum fixed_schema which)
{
    pthread_once(&once, parse_all);
    return parsed[which];
}
