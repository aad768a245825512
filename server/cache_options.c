/* cache_options.c - the combinations as a table. */
#include "server/cache_options.h"

#define LEAST_STAGING (64ull << 20)
#define MOST_STAGING (4ull << 30)

static bool is_given(const struct options *options, enum option_id option)
{
    return options->origin[option].source != FROM_DEFAULT;
}

enum status cache_options_check(const struct options *options, struct err *err)
{
    static const struct {
        enum option_id option;
        const char *name;
    } needs_dir[] = {
        { OPTION_cache_size, "cache-size" },
        { OPTION_cache_write_rate, "cache-write-rate" },
        { OPTION_cache_write_day, "cache-write-day" },
        { OPTION_cache_disk_after, "cache-disk-after" },
    };
    bool dir = options->cache_dir[0];

    for (size_t i = 0; i < sizeof needs_dir / sizeof *needs_dir && !dir; i++)
        if (is_given(options, needs_dir[i].option))
            return fail(err, BAD_INPUT, "%s: found \"%s\" and no cache-dir, wanted both or neither",
                        needs_dir[i].name, options->text[needs_dir[i].option]);
    if (dir && !options->cache_size_bytes)
        return fail(err, BAD_INPUT,
                    "cache-dir: found \"%s\" and no cache-size, wanted how much of the disk the "
                    "cache may take, such as cache-size 200GB",
                    options->cache_dir);
    if (dir && !options->prefix_cache)
        return fail(err, BAD_INPUT, "cache-dir: found \"%s\" while prefix-cache is off",
                    options->cache_dir);
    if (dir && options->backend == OPT_BACKEND_SCRIPTED)
        return fail(err, BAD_INPUT,
                    "cache-dir: found \"%s\" while the backend is scripted, which computes nothing "
                    "worth keeping",
                    options->cache_dir);
    if (options->cache_host_bytes && !options->prefix_cache)
        return fail(err, BAD_INPUT, "cache-host: found \"%s\" while prefix-cache is off",
                    options->text[OPTION_cache_host]);
    return OK;
}

uint64_t cache_options_host_bytes(const struct options *options, bool gpu, uint64_t ram_bytes)
{
    if (!options->prefix_cache) return 0;
    if (options->cache_host_bytes) return options->cache_host_bytes;
    if (gpu) return ram_bytes / 4;
    if (!options->cache_dir[0]) return 0;  // device memory is host memory already
    uint64_t bytes = ram_bytes / 16;
    return bytes < LEAST_STAGING ? LEAST_STAGING : bytes > MOST_STAGING ? MOST_STAGING : bytes;
}
