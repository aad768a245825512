/* cache_identity.c - digests of texts that say what they are, so that a log or a test can show them. */
#include "engine/cache_identity.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "cache/store.h"
#include "config/buf.h"
#include "config/clock.h"
#include "config/private_file.h"
#include "engine/model.h"
#include "engine/weights_digest.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "images are little-endian");
_Static_assert(sizeof(struct prefix_key) == SHA256_BYTES, "identities are digests");

/* The order of planes and rows in the image (kv_layout.h), and what a W page's tails hold: the last
 * 4 rows of each compressor before the boundary. One more when any of it changes. */
#define IMAGE_VERSION 1

/* One more for a backend whenever its kernels store other bits than before for the same tokens:
 * roundings, order of sums, exponentials. cache_identity_test pins the CPU's bytes, model_resume_test
 * the GPU's. */
static const struct {
    const char *backend;
    uint32_t version;
} NUMERICS[] = {
    { "cpu", 1 },
    { "cuda", 1 },
};

static struct prefix_key digest_of(struct slice text)
{
    struct prefix_key digest;
    sha256(&(struct sha256_part){ text.data, text.size }, 1, digest.byte);
    return digest;
}

static enum status finish_text(struct buf *text, struct prefix_key *digest, struct err *err)
{
    enum status status = buf_status(text);
    if (status == OK) *digest = digest_of(buf_slice(text));
    buf_release(text);
    return status == OK ? OK : fail(err, status, "no memory for the cache's identity");
}

/* ---- format and numerics */

static enum status make_format(const struct shape *shape, enum numerics numerics,
                               struct prefix_key *format, struct err *err)
{
    struct kv_layout layout;
    struct buf text;

    if (model_layout(shape, numerics, &layout) != OK)
        return fail(err, NO_MEMORY, "no memory for the KV layout");
    buf_init(&text, 0);
    buf_addf(&text, "image %d little-endian, tails 4 rows, block %u, window %u\n", IMAGE_VERSION,
             KV_BLOCK_TOKENS, shape->window);
    buf_addf(&text, "entry %u of which rotated %u, key %u, %s\n", shape->head_dim, shape->rope_dim,
             shape->index_dim, numerics == NUMERICS_EXACT ? "fp32" : "as released");
    buf_addf(&text, "layers %u, no drafts, g %zu, w %zu\n", layout.layers, layout.g_bytes,
             layout.w_image_bytes);
    for (uint32_t l = 0; l < layout.layers; l++) {
        const struct kv_layer *at = &layout.layer[l];
        buf_addf(&text, "%u: %zu %zu %zu %zu %zu\n", at->ratio, at->entries, at->keys, at->window,
                 at->tail, at->key_tail);
    }
    kv_layout_release(&layout);
    return finish_text(&text, format, err);
}

/* The rotation's frequencies come from the system's pow, the one function of a library that stored
 * bits hang on, so they are named by value. */
static enum status make_numerics(const struct cache_identity_options *options,
                                 struct prefix_key *numerics, struct err *err)
{
    static const uint32_t RATIOS[] = { 0, SHAPE_CSA_RATIO, SHAPE_HCA_RATIO };
    uint32_t pairs = options->shape->rope_dim / 2, version = 0;
    struct buf text;

    for (size_t i = 0; i < sizeof NUMERICS / sizeof *NUMERICS; i++)
        if (strcmp(NUMERICS[i].backend, options->backend) == 0) version = NUMERICS[i].version;
    must(version > 0);
    float *frequency = calloc(pairs + 1, sizeof *frequency);
    if (!frequency) return fail(err, NO_MEMORY, "no memory for the cache's identity");
    buf_init(&text, 0);
    buf_addf(&text, "%s %s %u\n", options->backend,
             options->numerics == NUMERICS_EXACT ? "exact" : "official", version);
    for (size_t i = 0; i < sizeof RATIOS / sizeof *RATIOS; i++) {
        shape_rope_frequencies(options->shape, RATIOS[i], frequency);
        buf_add(&text, frequency, pairs * sizeof *frequency);
    }
    free(frequency);
    return finish_text(&text, numerics, err);
}

/* ---- what lies in the directory */

enum { SECRET_BYTES = sizeof(struct prefix_key) };

static struct private_file file_of(int dir_fd, const char *dir, const char *name)
{
    return (struct private_file){ .dir_fd = dir_fd, .dir = dir, .name = name };
}

static enum status draw(struct prefix_key *secret, struct err *err)
{
    if (getrandom(secret->byte, SECRET_BYTES, 0) == SECRET_BYTES) return OK;
    return fail(err, IO_FAILED, "getrandom: %s", strerror(errno));
}

static enum status read_secret(const struct private_file *file, struct prefix_key *secret,
                               bool *found, struct err *err)
{
    struct buf bytes;

    buf_init(&bytes, 0);
    enum status status = private_file_read(file, &bytes, found, err);
    if (status == OK && *found && bytes.size != SECRET_BYTES)
        status = fail(err, BAD_INPUT,
                      "%s/%s: found %zu bytes, wanted %d; remove the directory to begin again",
                      file->dir, file->name, bytes.size, SECRET_BYTES);
    if (status == OK && *found) memcpy(secret->byte, bytes.data, SECRET_BYTES);
    if (bytes.data) explicit_bzero(bytes.data, bytes.room);
    buf_release(&bytes);
    return status;
}

/* The directory's, or a fresh one where nothing was written under an earlier one. */
static enum status take_secret(int dir_fd, const char *dir, struct prefix_key *secret,
                               struct err *err)
{
    struct private_file file = file_of(dir_fd, dir, "secret");
    bool found;

    private_file_lock(dir_fd);  // two that start at once must not each draw one
    enum status status = read_secret(&file, secret, &found, err);
    if (status == OK && !found) {
        if (faccessat(dir_fd, "super.a", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            status = fail(err, BAD_INPUT,
                          "%s: the file secret is gone, so nothing in it can be found; name "
                          "another directory, or remove this one",
                          dir);
        if (status == OK) status = draw(secret, err);
        if (status == OK)
            status = private_file_write(
                &file, (struct slice){ (const char *)secret->byte, SECRET_BYTES }, err);
    }
    private_file_unlock(dir_fd);
    return status;
}

/* ---- the model */

static enum status make_model(const struct cache_identity_options *options, int dir_fd,
                              struct cache_identity *identity, struct weights_digest_cost *cost,
                              struct err *err)
{
    struct private_file memory = file_of(dir_fd, options->dir, "weights");
    struct weights_digest_options weights = { .model = options->model,
                                              .random_weights = options->random_weights,
                                              .random_seed = options->random_seed,
                                              .memory = &memory,
                                              .threads = options->threads,
                                              .progress = options->progress,
                                              .user = options->user };
    return weights_digest(&weights, identity->model.byte, cost, err);
}

enum status cache_identity_make(const struct cache_identity_options *options,
                                struct cache_identity *identity, struct cache_identity_cost *cost,
                                struct err *err)
{
    struct cache_identity made = { 0 };
    struct weights_digest_cost read = { 0 };
    uint64_t began = now_ns();
    int dir_fd = -1;

    enum status status = make_format(options->shape, options->numerics, &made.format, err);
    if (status == OK) status = make_numerics(options, &made.numerics, err);
    if (status != OK) return status;
    if (!options->dir || !options->dir[0]) {
        made.model = digest_of(SLICE("unread"));  // the secret alone tells processes apart
        status = draw(&made.secret, err);
    } else {
        status = store_open_dir(options->dir, &dir_fd, err);
        if (status == OK) status = take_secret(dir_fd, options->dir, &made.secret, err);
        if (status == OK) status = make_model(options, dir_fd, &made, &read, err);
        if (dir_fd >= 0) close(dir_fd);
    }
    if (status == OK) *identity = made;
    if (status == OK && cost)
        *cost = (struct cache_identity_cost){ .files = read.files,
                                              .bytes = read.bytes,
                                              .hashed_bytes = read.hashed_bytes,
                                              .took_ns = now_ns() - began };
    return status;
}

/* ---- for tools */

static int open_there(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) (void)fail(err, BAD_INPUT, "%s: %s", dir, strerror(errno));
    return fd;
}

enum status cache_identity_read_secret(const char *dir, struct prefix_key *secret, struct err *err)
{
    bool found;
    int fd = open_there(dir, err);
    if (fd < 0) return BAD_INPUT;

    struct private_file file = file_of(fd, dir, "secret");
    enum status status = read_secret(&file, secret, &found, err);
    if (status == OK && !found)
        status = fail(err, BAD_INPUT, "%s: holds no file secret, so no cache of ours", dir);
    close(fd);
    return status;
}

static void make_store_key(const struct prefix_key *secret, const uint8_t model[SHA256_BYTES],
                           uint8_t key[SHA256_BYTES])
{
    static const char tag[] = "fathom store key";
    hmac_sha256(secret->byte, SECRET_BYTES,
                (const struct sha256_part[]){ { tag, sizeof tag }, { model, SHA256_BYTES } }, 2,
                key);
}

bool cache_identity_matches(const char *dir, const uint8_t store_key[SHA256_BYTES])
{
    uint8_t model[WEIGHTS_MODELS_MOST][SHA256_BYTES], key[SHA256_BYTES];
    struct prefix_key secret;
    int fd = open_there(dir, NULL);
    bool same = false;

    if (fd < 0) return false;
    struct private_file memory = file_of(fd, dir, "weights");
    uint32_t models = weights_digest_known(&memory, model);
    close(fd);
    if (cache_identity_read_secret(dir, &secret, NULL) != OK) return false;
    for (uint32_t i = 0; i < models && !same; i++) {
        make_store_key(&secret, model[i], key);
        same = memcmp(key, store_key, sizeof key) == 0;
    }
    return same;
}

/* ---- names */

void cache_identity_for_store(const struct cache_identity *identity, uint8_t format[SHA256_BYTES],
                              uint8_t key[SHA256_BYTES])
{
    static const char tag[] = "fathom store format 2";  // 2: tags of two halves
    sha256((const struct sha256_part[]){ { tag, sizeof tag },
                                         { &identity->format, SHA256_BYTES },
                                         { &identity->numerics, SHA256_BYTES } },
           3, format);
    make_store_key(&identity->secret, identity->model.byte, key);
}

static struct slice bytes_of(const uint8_t digest[SHA256_BYTES])
{
    return (struct slice){ (const char *)digest, SHA256_BYTES };
}

struct prefix_key cache_identity_root(const struct cache_identity *identity,
                                      const uint8_t tenant[SHA256_BYTES],
                                      const uint8_t salt[SHA256_BYTES])
{
    static const uint8_t none[SHA256_BYTES];
    bool salted = memcmp(salt, none, SHA256_BYTES) != 0;
    struct prefix_space space = {
        .format = bytes_of(identity->format.byte),
        .model = bytes_of(identity->model.byte),
        .numerics = bytes_of(identity->numerics.byte),
        .scope = prefix_scope(bytes_of(identity->secret.byte), bytes_of(tenant),
                              salted ? bytes_of(salt) : SLICE("")),
    };
    return prefix_key_root(&space);
}

void cache_identity_tag(const struct prefix_key *secret, const uint8_t owner[SHA256_BYTES],
                        const uint8_t tenant[SHA256_BYTES], uint8_t tag[RECORD_TAG])
{
    struct slice key = bytes_of(secret->byte);
    struct prefix_key all = prefix_scope(key, bytes_of(owner), SLICE("owner"));
    struct prefix_key scope = prefix_scope(key, bytes_of(tenant), SLICE("tag"));
    memcpy(tag, all.byte, CACHE_OWNER_TAG);
    memcpy(tag + CACHE_OWNER_TAG, scope.byte, RECORD_TAG - CACHE_OWNER_TAG);
}
