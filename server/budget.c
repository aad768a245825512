/* budget.c - a scan of the usage log for three fields of each line.
 *
 * The lines are our own (usage_log.h) and their fields stand in a fixed order, with nothing before the
 * token counts that a client could have written but a request id, which holds no quotes.
 */
#include "server/budget.h"
#include <errno.h>
#include <string.h>
#include "config/clock.h"
#include "config/log.h"

static bool wants_budgets(const struct access *access)
{
    const struct tenant *tenant;

    for (uint32_t i = 0; (tenant = access_tenant(access, i)); i++)
        if (tenant->limits.budget_tokens) return true;
    return false;
}

static bool read_number(const char *line, const char *key, uint64_t *number)
{
    const char *at = strstr(line, key);
    char *end;

    if (!at) return false;
    at += strlen(key);
    if (*at < '0' || *at > '9') return false;
    *number = strtoull(at, &end, 10);
    return *end == ',' && *number <= UINT32_MAX;
}

/* The last line of a daemon that was killed may be half a line. */
static const struct tenant *read_line(const char *line, size_t size, const struct access *access,
                                      uint64_t *tokens)
{
    static const char key[] = "\"tenant\":\"";
    const char *name = strstr(line, key);
    uint64_t prompt, output;
    const struct tenant *tenant;

    if (size < 2 || line[size - 2] != '}' || line[size - 1] != '\n' || !name) return NULL;
    name += sizeof key - 1;
    size_t name_size = strcspn(name, "\"");
    if (!read_number(name, "\"prompt_tokens\":", &prompt)) return NULL;
    if (!read_number(name, "\"output_tokens\":", &output)) return NULL;
    *tokens = prompt + output;
    for (uint32_t i = 0; (tenant = access_tenant(access, i)); i++)
        if (slice_equal(slice_of(tenant->name), (struct slice){ name, name_size })) return tenant;
    return NULL;
}

enum status budget_read(const char *path, const struct access *access, struct limits *limits,
                        struct err *err)
{
    uint64_t begun_ns = now_ns(), tokens, records = 0;
    struct log_line said;
    size_t room = 0;
    ssize_t size;

    if (!path[0] || !wants_budgets(access)) return OK;
    FILE *file = fopen(path, "re");
    if (!file && errno == ENOENT) return OK;
    if (!file) return fail(err, IO_FAILED, "usage-log: %s: %s", path, strerror(errno));
    char *line = NULL;
    while ((size = getline(&line, &room, file)) > 0) {
        const struct tenant *tenant = read_line(line, (size_t)size, access, &tokens);
        if (!tenant) continue;
        limits_spend(limits, tenant, tokens);
        records++;
    }
    bool broken = ferror(file) != 0;
    free(line);
    fclose(file);
    if (broken) return fail(err, IO_FAILED, "usage-log: %s: it could not be read whole", path);
    log_begin(&said, OPT_LOG_LEVEL_INFO, "budgets");
    log_int(&said, "records", (int64_t)records);
    log_ms(&said, "ms", now_ns() - begun_ns);
    log_end(&said);
    return OK;
}
