/* access_edit.c - the key file read, changed and written whole. */
#include "server/access_edit.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "config/json.h"
#include "server/access_parts.h"

static const struct {
    const char *word;
    enum access_scope scope;
} scopes[] = { { "api", ACCESS_API }, { "metrics", ACCESS_METRICS } };

bool access_scopes_read(struct slice text, unsigned *set)
{
    *set = 0;
    while (text.size) {
        const char *comma = memchr(text.data, ',', text.size);
        struct slice word = { text.data, comma ? (size_t)(comma - text.data) : text.size };
        unsigned before = *set;
        for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
            if (slice_equal(word, slice_of(scopes[i].word))) *set |= scopes[i].scope;
        if (*set == before) return false;
        text = slice_from(text, word.size + (comma != NULL));
    }
    return *set != 0;
}

void access_scopes_write(unsigned set, char text[24])
{
    text[0] = '\0';
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
        if (set & scopes[i].scope)
            snprintf(text + strlen(text), 24 - strlen(text), "%s%s", text[0] ? "," : "",
                     scopes[i].word);
}

/* ---- the file as text ---- */

static void add_field(struct buf *out, const char *name)
{
    if (out->size && out->data[out->size - 1] != '{') buf_add_string(out, ", ");
    buf_addf(out, "\"%s\": ", name);
}

static void add_text(struct buf *out, const char *name, const char *text)
{
    add_field(out, name);
    js_add_string(out, slice_of(text));
}

static void add_time(struct buf *out, const char *name, int64_t unix_s)
{
    char text[24];

    if (!unix_s) return;
    access_time_write(unix_s, text);
    add_text(out, name, text);
}

static void add_names(struct buf *out, const struct access_names *models)
{
    if (!models->count) return;
    add_field(out, "models");
    for (uint32_t i = 0; i < models->count; i++) {
        buf_add_string(out, i ? ", " : "[");
        js_add_string(out, models->name[i]);
    }
    buf_add_byte(out, ']');
}

static void add_limits(struct buf *out, const char *name, const struct access_limits *limits)
{
    static const struct access_limits none;

    if (memcmp(limits, &none, sizeof none) == 0) return;
    add_field(out, name);
    buf_add_byte(out, '{');
    for (size_t i = 0; i < ACCESS_LIMIT_ROWS; i++) {
        const struct access_limit_row *row = &access_limit_rows[i];
        uint64_t value = *(const uint64_t *)(const void *)((const char *)limits + row->offset);
        if (!value) continue;
        add_field(out, row->name);
        buf_addf(out, "%llu", (unsigned long long)value);
    }
    buf_add_byte(out, '}');
}

static void add_tenant(struct buf *out, const struct tenant *tenant)
{
    buf_add_byte(out, '{');
    add_text(out, "name", tenant->name);
    if (tenant->weight != 1) {
        add_field(out, "weight");
        buf_addf(out, "%u", tenant->weight);
    }
    add_names(out, &tenant->models);
    if (tenant->priority_least != 0 || tenant->priority_most != INT32_MAX) {
        add_field(out, "priority");
        buf_addf(out, "[%d, %d]", tenant->priority_least, tenant->priority_most);
    }
    if (tenant->group) add_text(out, "group", tenant->group);
    if (!tenant->isolate_users) {
        add_field(out, "isolate_users");
        buf_add_string(out, "false");
    }
    add_limits(out, "limits", &tenant->limits);
    add_limits(out, "user_limits", &tenant->user_limits);
    buf_add_byte(out, '}');
}

static void add_key(struct buf *out, const struct access_key *key)
{
    char hex[2 * SHA256_BYTES + 1];
    bool first = true;

    buf_add_byte(out, '{');
    add_text(out, "id", key->id);
    add_text(out, "tenant", key->tenant->name);
    access_hex_write(key->salt, sizeof key->salt, hex);
    add_text(out, "salt", hex);
    access_hex_write(key->digest, sizeof key->digest, hex);
    add_text(out, "sha256", hex);
    add_field(out, "scopes");
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++) {
        if (!(key->scopes & scopes[i].scope)) continue;
        buf_addf(out, "%s\"%s\"", first ? "[" : ", ", scopes[i].word);
        first = false;
    }
    buf_add_byte(out, ']');
    add_names(out, &key->models);
    add_time(out, "created", key->created);
    add_time(out, "expires", key->expires);
    if (key->disabled) {
        add_field(out, "disabled");
        buf_add_string(out, "true");
    }
    buf_add_byte(out, '}');
}

void access_write(const struct access *access, struct buf *out)
{
    buf_add_string(out, "{\n  \"tenants\": [");
    for (uint32_t i = 0; i < access->tenants; i++) {
        buf_add_string(out, i ? ",\n    " : "\n    ");
        add_tenant(out, &access->tenant[i]);
    }
    buf_add_string(out, "\n  ],\n  \"keys\": [");
    for (uint32_t i = 0; i < access->keys; i++) {
        buf_add_string(out, i ? ",\n    " : "\n    ");
        add_key(out, &access->key[i]);
    }
    buf_add_string(out, "\n  ]\n}\n");
}

/* ---- one edit ---- */

struct edit {
    const char *path;
    char real[PATH_MAX];         // behind symbolic links
    char beside[PATH_MAX + 16];  // what is written and renamed
    int fd;                      // of the file that is there, locked
    struct stat about;           // of it
    struct access *access;
    struct err *err;
};

static enum status io_failed(const struct edit *edit, const char *what)
{
    return fail(edit->err, IO_FAILED, "%s: %s: %s", edit->path, what, strerror(errno));
}

/* The lock is on the file that is renamed over, so one that was waited for may be of the past. */
static enum status lock_file(struct edit *edit, bool make)
{
    struct stat there;

    for (;;) {
        edit->fd = open(edit->path, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
        if (edit->fd < 0) return io_failed(edit, "it cannot be opened to be changed");
        if (flock(edit->fd, LOCK_EX | LOCK_NB)) {
            close(edit->fd);
            if (errno != EWOULDBLOCK) return io_failed(edit, "it cannot be locked");
            return fail(edit->err, BUSY, "%s: another process changes it now", edit->path);
        }
        if (fstat(edit->fd, &edit->about) == 0 && stat(edit->path, &there) == 0 &&
            there.st_ino == edit->about.st_ino && there.st_dev == edit->about.st_dev)
            return OK;
        close(edit->fd);
    }
}

/* An empty file is one that was made just now, or by `touch`. */
static enum status begin(struct edit *edit, bool make)
{
    enum status status = lock_file(edit, make);

    if (status != OK) return status;
    edit->access = access_new();
    if (!edit->access) status = fail(edit->err, NO_MEMORY, "%s: no memory", edit->path);
    else if (!realpath(edit->path, edit->real)) status = io_failed(edit, "its place");
    else if (edit->about.st_size > 0 || !make)
        status = access_read(edit->access, edit->fd, edit->path, edit->err);
    if (status == OK) status = access_finish(edit->access, edit->path, edit->err);
    if (status == OK) return OK;
    access_drop(edit->access);
    close(edit->fd);
    return status;
}

static void end(struct edit *edit)
{
    access_drop(edit->access);
    close(edit->fd);
}

static enum status write_all(struct edit *edit, int fd, struct slice text)
{
    while (text.size) {
        ssize_t written = write(fd, text.data, text.size);
        if (written < 0) return io_failed(edit, "it could not be written");
        text = slice_from(text, (size_t)written);
    }
    return OK;
}

/* What was written must be what is read. */
static enum status read_back(struct edit *edit, int fd)
{
    struct access *again = access_new();
    enum status status = NO_MEMORY;

    if (lseek(fd, 0, SEEK_SET) != 0) status = IO_FAILED;
    else if (again) status = access_read(again, fd, edit->beside, edit->err);
    must(status != OK ||
         (again->keys == edit->access->keys && again->tenants == edit->access->tenants));
    access_drop(again);
    return status;
}

static enum status flush_folder(struct edit *edit)
{
    char folder[PATH_MAX];

    memcpy(folder, edit->real, sizeof folder);
    char *slash = strrchr(folder, '/');
    slash[slash == folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_failed(edit, "its folder");
    int failed = fsync(fd);
    close(fd);
    return failed ? io_failed(edit, "its folder could not be flushed") : OK;
}

/* Its owner stays, since a daemon of another user than the editor's reads it. */
static enum status commit(struct edit *edit)
{
    struct buf text;

    snprintf(edit->beside, sizeof edit->beside, "%s.new", edit->real);
    unlink(edit->beside);  // of an edit that was cut short, or of who would like to keep it open
    int fd = open(edit->beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return io_failed(edit, "the new one beside it");
    buf_init(&text, ACCESS_FILE_BYTES_MOST);
    access_write(edit->access, &text);
    enum status status = buf_status(&text) == OK
                             ? write_all(edit, fd, buf_slice(&text))
                             : fail(edit->err, NO_MEMORY, "%s: no memory", edit->path);
    buf_release(&text);
    if (status == OK && fchmod(fd, 0600)) status = io_failed(edit, "mode 600");
    if (status == OK && fchown(fd, edit->about.st_uid, edit->about.st_gid))
        status = io_failed(edit, "the new one's owner");
    if (status == OK) status = read_back(edit, fd);
    if (status == OK && fsync(fd)) status = io_failed(edit, "the new one could not be flushed");
    close(fd);
    if (status == OK && rename(edit->beside, edit->real)) status = io_failed(edit, "its renaming");
    if (status != OK) unlink(edit->beside);
    return status == OK ? flush_folder(edit) : status;
}

/* ---- what is changed ---- */

/* One more at the end of an array of the table. NULL: no memory. */
static void *grow(struct access *access, const void *array, uint32_t count, size_t size)
{
    void *grown = arena_array(&access->arena, (size_t)count + 2, size);

    if (grown && count) memcpy(grown, array, count * size);
    return grown;
}

/* Keys point to their tenants, so those move along. */
static bool add_new_tenant(struct access *access, const char *name)
{
    struct tenant *old = access->tenant, *grown = grow(access, old, access->tenants, sizeof *old);
    const char *copy = arena_copy(&access->arena, slice_of(name)).data;

    if (!grown || !copy) return false;
    for (uint32_t i = 0; i < access->keys; i++)
        access->key[i].tenant = &grown[access->key[i].tenant - old];
    access->tenant = grown;
    access->tenant[access->tenants++] = (struct tenant){
        .name = copy, .weight = 1, .priority_most = INT32_MAX, .isolate_users = true
    };
    return true;
}

static const struct tenant *find_tenant(const struct access *access, const char *name)
{
    for (uint32_t i = 0; i < access->tenants; i++)
        if (strcmp(access->tenant[i].name, name) == 0) return &access->tenant[i];
    return NULL;
}

static void draw(void *bytes, size_t size)
{
    must(getrandom(bytes, size, 0) == (ssize_t)size);  // so few never fall short
}

/* `text` receives the key. false: no memory. */
static bool add_new_key(struct access *access, const struct access_wish *wish, char *text)
{
    struct access_key *key = grow(access, access->key, access->keys, sizeof *key);
    char *id = arena_take(&access->arena, 17), secret[ACCESS_SECRET_DIGITS + 1];
    uint8_t random[ACCESS_SECRET_DIGITS / 2];

    if (!key || !id) return false;
    access->key = key;
    key = &access->key[access->keys++];
    draw(random, 8);
    access_hex_write(random, 8, id);
    *key = (struct access_key){ .id = id,
                                .tenant = find_tenant(access, wish->tenant),
                                .scopes = wish->scopes ? wish->scopes : ACCESS_API,
                                .created = (int64_t)time(NULL),
                                .expires = wish->expires };
    draw(key->salt, sizeof key->salt);
    draw(random, sizeof random);
    access_hex_write(random, sizeof random, secret);
    const struct sha256_part part[] = { { key->salt, sizeof key->salt },
                                        { secret, ACCESS_SECRET_DIGITS } };
    sha256(part, 2, key->digest);
    snprintf(text, ACCESS_KEY_SIZE, "fathom_%s.%s", id, secret);
    explicit_bzero(random, sizeof random);
    explicit_bzero(secret, sizeof secret);
    return true;
}

enum status access_edit_add(const char *path, const struct access_wish *wish,
                            char key[ACCESS_KEY_SIZE], struct err *err)
{
    struct edit edit = { .path = path, .err = err };

    if (!access_name_is_fit(slice_of(wish->tenant)))
        return fail(err, BAD_INPUT, "tenant: found \"%.80s\", wanted 1 to %d of A-Z a-z 0-9 . _ -",
                    wish->tenant, ACCESS_NAME_MOST);
    enum status status = begin(&edit, true);
    if (status != OK) return status;
    if (edit.access->keys == ACCESS_KEYS_MOST)
        status =
            fail(err, BAD_INPUT, "%s: holds %d keys, which is the most", path, ACCESS_KEYS_MOST);
    if (status == OK && !find_tenant(edit.access, wish->tenant) &&
        !add_new_tenant(edit.access, wish->tenant))
        status = fail(err, NO_MEMORY, "%s: no memory", path);
    if (status == OK && !add_new_key(edit.access, wish, key))
        status = fail(err, NO_MEMORY, "%s: no memory", path);
    if (status == OK) status = commit(&edit);
    if (status != OK) explicit_bzero(key, ACCESS_KEY_SIZE);
    end(&edit);
    return status;
}

enum status access_edit_revoke(const char *path, const char *id, struct err *err)
{
    struct edit edit = { .path = path, .err = err };
    struct access_key *key = NULL;

    enum status status = begin(&edit, false);
    if (status != OK) return status;
    for (uint32_t i = 0; i < edit.access->keys; i++)
        if (strcmp(edit.access->key[i].id, id) == 0) key = &edit.access->key[i];
    if (key) {
        key->disabled = true;
        status = commit(&edit);
    } else {
        status = fail(err, BAD_INPUT, "%s: found no key with the id \"%.80s\"", path, id);
    }
    end(&edit);
    return status;
}

/* ---- the list ---- */

static const char *state_of(const struct access_key *key, int64_t unix_s)
{
    if (key->disabled) return "revoked";
    return key->expires && unix_s >= key->expires ? "expired" : "live";
}

static void list_json(const struct access_key *key, const char *state, struct buf *out)
{
    char text[24];

    buf_add_byte(out, '{');
    add_text(out, "id", key->id);
    add_text(out, "tenant", key->tenant->name);
    add_text(out, "state", state);
    access_scopes_write(key->scopes, text);
    add_text(out, "scopes", text);
    add_names(out, &key->models);
    add_time(out, "created", key->created);
    add_time(out, "expires", key->expires);
    buf_add_string(out, "}\n");
}

static void list_line(const struct access_key *key, const char *state, struct buf *out)
{
    char set[24], created[24] = "-", expires[24] = "-";

    access_scopes_write(key->scopes, set);
    if (key->created) access_time_write(key->created, created);
    if (key->expires) access_time_write(key->expires, expires);
    buf_addf(out, "%-16s  %-16s  %-8s  %-12s  %-20s  %s\n", key->id, key->tenant->name, state, set,
             created, expires);
}

void access_list(const struct access *access, int64_t unix_s, bool json, struct buf *out)
{
    if (!json)
        buf_addf(out, "%-16s  %-16s  %-8s  %-12s  %-20s  %s\n", "ID", "TENANT", "STATE", "SCOPES",
                 "CREATED", "EXPIRES");
    for (uint32_t i = 0; i < access->keys; i++) {
        const struct access_key *key = &access->key[i];
        (json ? list_json : list_line)(key, state_of(key, unix_s), out);
    }
}

bool access_expiry_read(const char *text, int64_t now, int64_t *unix_s)
{
    char unit = 0, more = 0;
    int count = 0;

    if (access_time_read(slice_of(text), unix_s)) return *unix_s > now;
    if (sscanf(text, "%d%c%c", &count, &unit, &more) != 2 || count < 1 || count > 1000000)
        return false;
    if (unit != 'd' && unit != 'h') return false;
    *unix_s = now + (int64_t)count * (unit == 'd' ? 86400 : 3600);
    return true;
}
