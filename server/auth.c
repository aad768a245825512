/* auth.c - the key file, and a comparison that looks at every byte of every key. */
#include <errno.h>
#include <stdint.h>
#include <strings.h>
#include <sys/stat.h>
#include "server/auth.h"
#include "server/cache_tenant.h"

#define KEY_LEAST 16  // bytes
#define KEY_MOST 256  // bytes
#define KEYS_MOST 1000

struct key {
    unsigned char text[KEY_MOST];  // padded with zeros
    uint32_t size;
};

struct auth {
    uint32_t count;
    struct key key[KEYS_MOST];
};

/* One line without its end; comments and empty lines are nothing. */
static enum status take_line(struct auth *auth, const char *line, const char *path, unsigned number,
                             struct err *err)
{
    size_t size = strcspn(line, " \t\r\n#");

    if (size == 0) return OK;
    if (size < KEY_LEAST || size > KEY_MOST)
        return fail(err, BAD_INPUT, "%s:%u: a key of %zu bytes, wanted %d to %d", path, number,
                    size, KEY_LEAST, KEY_MOST);
    if (auth->count == KEYS_MOST)
        return fail(err, BAD_INPUT, "%s:%u: more than %d keys", path, number, KEYS_MOST);
    struct key *key = &auth->key[auth->count++];
    memcpy(key->text, line, size);
    key->size = (uint32_t)size;
    return OK;
}

static enum status read_keys(struct auth *auth, FILE *file, const char *path, struct err *err)
{
    char line[1024];
    unsigned number = 0;
    enum status status = OK;
    struct stat about;

    if (fstat(fileno(file), &about)) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    if (about.st_mode & (S_IRWXG | S_IRWXO))
        return fail(err, BAD_INPUT, "%s: others than its owner may use it; wanted mode 600", path);
    while (status == OK && fgets(line, sizeof line, file))
        status = take_line(auth, line, path, ++number, err);
    explicit_bzero(line, sizeof line);
    if (status == OK && auth->count == 0) return fail(err, BAD_INPUT, "%s: holds no key", path);
    return status;
}

enum status auth_open(const char *path, struct auth **auth, struct err *err)
{
    FILE *file = fopen(path, "re");
    struct auth *made;

    if (!file) return fail(err, IO_FAILED, "%s: %s", path, strerror(errno));
    made = calloc(1, sizeof *made);
    if (!made) {
        fclose(file);
        return fail(err, NO_MEMORY, "%s: no memory for its keys", path);
    }
    enum status status = read_keys(made, file, path, err);
    fclose(file);
    if (status != OK) auth_close(made);
    else *auth = made;
    return status;
}

void auth_close(struct auth *auth)
{
    if (!auth) return;
    explicit_bzero(auth, sizeof *auth);
    free(auth);
}

bool auth_allows(const struct auth *auth, struct slice given, uint8_t owner[SHA256_BYTES])
{
    static const char bearer[] = "Bearer ";
    struct key key = { 0 };
    unsigned found = 0;

    if (given.size > sizeof bearer - 1 && strncasecmp(given.data, bearer, sizeof bearer - 1) == 0)
        given = slice_from(given, sizeof bearer - 1);
    if (given.size == 0 || given.size > KEY_MOST) return false;
    memcpy(key.text, given.data, given.size);
    key.size = (uint32_t)given.size;
    for (uint32_t i = 0; i < auth->count; i++) {
        const struct key *known = &auth->key[i];
        unsigned differs = known->size ^ key.size;
        for (uint32_t b = 0; b < KEY_MOST; b++) differs |= known->text[b] ^ key.text[b];
        found |= (unsigned)(differs == 0);
    }
    explicit_bzero(&key, sizeof key);
    if (found) cache_owner_of(given, owner);
    return found != 0;
}
