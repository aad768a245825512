/* safetensors.c - maps files, gathers their tensors in one table, and holds the index against it. */
#include "engine/safetensors.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/hash.h"
#include "config/json.h"

enum { MOST_FILES = 4096 };

static const char index_name[] = "model.safetensors.index.json";
static const size_t most_index_bytes = 256u << 20;

static char *path_join(const char *dir, struct slice name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%.*s", dir, (int)name.size, name.data) < 0 ? NULL : path;
}

/* Maps the whole file. Takes `path`. */
static enum status map_file(char *path, struct st_file *file, struct err *err)
{
    enum status status = OK;
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    *file = (struct st_file){ .path = path, .name = strrchr(path, '/') };
    file->name = file->name ? file->name + 1 : path;
    if (fd < 0) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    if (fstat(fd, &about) != 0) {
        status = fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(about.st_mode)) {
        status = fail(err, BAD_INPUT, "%s: found no regular file", path);
    } else if (about.st_size > 0) {
        void *data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = fail(err, IO_FAILED, "%s: cannot be mapped: %s", path, strerror(errno));
        else file->bytes = (struct slice){ data, (size_t)about.st_size };
    }
    close(fd);
    return status;
}

/* Adds the file and its tensors to the set; they are not in the table yet. Takes `path`. */
static enum status add_file(struct st_set *set, char *path, struct err *err)
{
    struct st_header header;
    uint32_t number = set->files;

    if (!path) return fail(err, NO_MEMORY, "no memory for a path");
    struct st_file *files = realloc(set->file, (number + 1) * sizeof *files);
    if (!files) {
        free(path);
        return fail(err, NO_MEMORY, "no memory for %u files", number + 1);
    }
    set->file = files;
    set->files++;
    enum status status = map_file(path, &set->file[number], err);
    if (status != OK) return status;
    status = st_header_read(path, set->file[number].bytes, &set->arena, &header, err);
    if (status != OK) return status;

    struct st_tensor *all = NULL;
    if (header.count < UINT32_MAX / 4 - set->tensors)
        all = realloc(set->tensor, (set->tensors + header.count + 1) * sizeof *all);
    if (!all) {
        free(header.tensor);
        return fail(err, NO_MEMORY, "%s: no memory for its %u tensors", path, header.count);
    }
    set->tensor = all;
    for (uint32_t i = 0; i < header.count; i++) {
        header.tensor[i].file = number;
        set->tensor_bytes += header.tensor[i].bytes;
        all[set->tensors++] = header.tensor[i];
    }
    free(header.tensor);
    return OK;
}

/* The bucket that holds this name, or the free one where it belongs. */
static uint32_t *find_bucket(const struct st_set *set, struct slice name)
{
    uint32_t at = (uint32_t)hash64(name.data, name.size, 0) & (set->buckets - 1);

    while (set->bucket[at] && !slice_equal(set->tensor[set->bucket[at] - 1].name, name))
        at = (at + 1) & (set->buckets - 1);
    return &set->bucket[at];
}

static enum status build_table(struct st_set *set, struct err *err)
{
    set->buckets = 16;
    while (set->buckets < set->tensors * 2) set->buckets *= 2;
    set->bucket = calloc(set->buckets, sizeof *set->bucket);
    if (!set->bucket) return fail(err, NO_MEMORY, "no memory for %u tensors", set->tensors);

    for (uint32_t i = 0; i < set->tensors; i++) {
        const struct st_tensor *tensor = &set->tensor[i];
        uint32_t *bucket = find_bucket(set, tensor->name);
        if (*bucket) {
            const char *other = set->file[set->tensor[*bucket - 1].file].name;
            return fail(err, BAD_INPUT, "%s: tensor %.*s: found a second time, first in %s",
                        st_path(set, tensor), (int)tensor->name.size, tensor->name.data, other);
        }
        *bucket = i + 1;
    }
    return OK;
}

const struct st_tensor *st_find(const struct st_set *set, struct slice name)
{
    uint32_t found = *find_bucket(set, name);
    return found ? &set->tensor[found - 1] : NULL;
}

enum status st_open_file(const char *path, struct st_set *set, struct err *err)
{
    *set = (struct st_set){ 0 };
    arena_init(&set->arena, 0);
    enum status status = add_file(set, strdup(path), err);
    if (status == OK) status = build_table(set, err);
    if (status != OK) st_close(set);
    return status;
}

/* ---- the index ------------------------------------------------------------------------------ */

/* The number of the set's file of this name, or set->files. Entries of one file come in runs, so
 * `last` is tried first. */
static uint32_t file_number(const struct st_set *set, struct slice name, uint32_t last)
{
    if (last < set->files && slice_equal(slice_of(set->file[last].name), name)) return last;
    for (uint32_t i = 0; i < set->files; i++)
        if (slice_equal(slice_of(set->file[i].name), name)) return i;
    return set->files;
}

static bool plain_file_name(struct slice name)
{
    return name.size > 0 && name.size < 256 && name.data[0] != '.' &&
           !memchr(name.data, '/', name.size) && !memchr(name.data, 0, name.size);
}

/* Opens each file that the map names, in the order in which it first does. */
static enum status open_files(const char *dir, const struct json *map, struct st_set *set,
                              struct err *err)
{
    uint32_t last = 0;

    for (struct js_member m = { 0 }; js_next(map, &m);) {
        if (js_kind(m.value) != JS_STRING)
            return fail(err, BAD_INPUT, "%s/%s: weight_map.%.*s: found %s, wanted a file's name",
                        dir, index_name, (int)m.key.size, m.key.data,
                        js_kind_name(js_kind(m.value)));
        struct slice name = js_string(m.value);
        if (!plain_file_name(name))
            return fail(err, BAD_INPUT,
                        "%s/%s: weight_map.%.*s: found \"%.*s\", wanted the plain name of a file",
                        dir, index_name, (int)m.key.size, m.key.data, (int)name.size, name.data);
        last = file_number(set, name, last);
        if (last < set->files) continue;
        if (set->files == MOST_FILES)
            return fail(err, BAD_INPUT, "%s/%s: names more than %d files", dir, index_name,
                        MOST_FILES);
        struct err inner = { "" };
        enum status status = add_file(set, path_join(dir, name), &inner);
        if (status == IO_FAILED)
            return fail(err, status, "%s (%s names it for tensor %.*s)", inner.text, index_name,
                        (int)m.key.size, m.key.data);
        if (status != OK) return fail(err, status, "%s", inner.text);
    }
    return OK;
}

/* Every entry of the map is in the file it names. */
static enum status check_map(const struct json *map, const struct st_set *set, struct err *err)
{
    for (struct js_member m = { 0 }; js_next(map, &m);) {
        struct slice name = js_string(m.value);
        const struct st_tensor *tensor = st_find(set, m.key);
        uint32_t named = file_number(set, name, tensor ? tensor->file : 0);
        if (!tensor)
            return fail(err, BAD_INPUT, "%s: tensor %.*s is not in it, though %s says so",
                        set->file[named].path, (int)m.key.size, m.key.data, index_name);
        if (tensor->file != named)
            return fail(err, BAD_INPUT, "%s: tensor %.*s: found in %s, wanted in %s", index_name,
                        (int)m.key.size, m.key.data, set->file[tensor->file].name,
                        set->file[named].name);
    }
    return OK;
}

/* Every tensor of the files is in the map; counts tell, and only a difference makes us search. */
static enum status check_listed(const struct json *map, const struct st_set *set, struct err *err)
{
    if (js_count(map) == set->tensors) return OK;
    for (uint32_t i = 0; i < set->tensors; i++) {
        const struct st_tensor *tensor = &set->tensor[i];
        char key[ST_MOST_NAME + 1];
        memcpy(key, tensor->name.data, tensor->name.size);
        key[tensor->name.size] = 0;
        if (!js_get(map, key))
            return fail(err, BAD_INPUT, "%s: tensor %s is not in %s", st_path(set, tensor), key,
                        index_name);
    }
    return OK;
}

static enum status read_index(const char *dir, const char *path, struct st_set *set,
                              struct err *err)
{
    struct json *index;
    enum status status = js_read_file(path, most_index_bytes, &index, err);

    if (status != OK) return status;
    const struct json *map = js_kind(index) == JS_OBJECT ? js_get(index, "weight_map") : NULL;
    if (!map || js_kind(map) != JS_OBJECT || js_count(map) == 0)
        status = fail(err, BAD_INPUT, "%s: wanted an object weight_map of tensors and files", path);
    if (status == OK) status = open_files(dir, map, set, err);
    if (status == OK) status = build_table(set, err);
    if (status == OK) status = check_map(map, set, err);
    if (status == OK) status = check_listed(map, set, err);
    js_free(index);
    return status;
}

enum status st_open_dir(const char *dir, struct st_set *set, struct err *err)
{
    char *index = path_join(dir, slice_of(index_name));
    char *single = path_join(dir, SLICE("model.safetensors"));
    enum status status;

    *set = (struct st_set){ 0 };
    arena_init(&set->arena, 0);
    if (!index || !single) {
        status = fail(err, NO_MEMORY, "no memory for a path");
    } else if (access(index, F_OK) != 0 && access(single, F_OK) == 0) {
        status = add_file(set, single, err);
        single = NULL;
        if (status == OK) status = build_table(set, err);
    } else {
        status = read_index(dir, index, set, err);
    }
    free(index);
    free(single);
    if (status != OK) st_close(set);
    return status;
}

void st_close(struct st_set *set)
{
    for (uint32_t i = 0; i < set->files; i++) {
        if (set->file[i].bytes.data)
            munmap((void *)(uintptr_t)set->file[i].bytes.data, set->file[i].bytes.size);
        free(set->file[i].path);
    }
    free(set->file);
    free(set->tensor);
    free(set->bucket);
    arena_release(&set->arena);
    *set = (struct st_set){ 0 };
}
