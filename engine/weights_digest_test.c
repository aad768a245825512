/* weights_digest_test.c - a checkpoint is its content; what was read once is not read again, unless
 * anything about the file says that it may be another. Also says how fast a core reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/clock.h"
#include "engine/model_writer.h"
#include "engine/safetensors.h"
#include "engine/weights_digest.h"

static char root[] = "/tmp/fathom-digest-XXXXXX";
static char model[64], cache[64], first_shard[128];
static struct private_file memory;

static uint8_t digest[SHA256_BYTES];
static struct weights_digest_cost cost;
static struct err err;

static enum status take(struct weights_digest_options options)
{
    options.model = model;
    options.memory = &memory;
    err.text[0] = 0;
    enum status status = weights_digest(&options, digest, &cost, &err);
    if (status != OK) print_message("%s\n", err.text);
    return status;
}

/* The tick of a clock may hide a change, so that nothing young is remembered. */
static void grow_old(void)
{
    usleep(150000);
}

static void set_byte(const char *path, off_t at, char byte)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* The same digest by hand, a file at a time. */
static void digest_file(const char *path, struct buf *out)
{
    static uint8_t data[4 << 20];
    struct buf pieces;
    uint8_t one[SHA256_BYTES];
    uint64_t size = 0;
    size_t got;
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    buf_init(&pieces, 0);
    while ((got = fread(data, 1, sizeof data, in)) > 0) {
        sha256(&(struct sha256_part){ data, got }, 1, one);
        buf_add(&pieces, one, sizeof one);
        size += got;
    }
    fclose(in);
    const char *name = strrchr(path, '/') + 1;
    buf_add(out, name, strlen(name) + 1);
    buf_add(out, &size, sizeof size);
    sha256(&(struct sha256_part){ pieces.data, pieces.size }, 1, one);
    buf_add(out, one, sizeof one);
    buf_release(&pieces);
}

static void the_digest_is_of_name_size_and_content_of_every_file(void **unused)
{
    static const char *const others[] = { "config.json", "model.safetensors.index.json" };
    struct st_set set;
    struct buf all;
    char path[128];
    uint8_t wanted[SHA256_BYTES];
    (void)unused;

    buf_init(&all, 0);
    buf_add(&all, "fathom model 1", 15);
    assert_int_equal(st_open_dir(model, &set, &err), OK);
    for (uint32_t pass = 0; pass < set.files + 2; pass++) {  // shards sort between the other two
        if (pass == 0) snprintf(path, sizeof path, "%s/%s", model, others[0]);
        else if (pass <= set.files) snprintf(path, sizeof path, "%s", set.file[pass - 1].path);
        else snprintf(path, sizeof path, "%s/%s", model, others[1]);
        digest_file(path, &all);
    }
    assert_true(set.files > 2);
    sha256(&(struct sha256_part){ all.data, all.size }, 1, wanted);
    for (uint32_t threads = 0; threads < 4; threads++) {
        unlinkat(memory.dir_fd, "weights", 0);
        assert_int_equal(take((struct weights_digest_options){ .threads = threads }), OK);
        assert_memory_equal(digest, wanted, sizeof wanted);
        assert_int_equal(cost.files, set.files + 2);
        assert_int_equal(cost.hashed_bytes, cost.bytes);
    }
    st_close(&set);
    buf_release(&all);
}

static void a_second_start_reads_nothing(void **unused)
{
    uint8_t before[SHA256_BYTES], known[WEIGHTS_MODELS_MOST][SHA256_BYTES];
    struct stat was, is;
    (void)unused;
    grow_old();
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    memcpy(before, digest, sizeof digest);
    assert_int_equal(fstatat(memory.dir_fd, "weights", &was, 0), 0);
    assert_int_equal(was.st_mode & 0777, 0600);
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    assert_memory_equal(digest, before, sizeof digest);
    assert_int_equal(cost.hashed_bytes, 0);
    assert_true(cost.bytes > 16u << 20);
    assert_int_equal(fstatat(memory.dir_fd, "weights", &is, 0), 0);
    assert_int_equal(was.st_ino, is.st_ino);  // nor is it written
    assert_true(weights_digest_known(&memory, known) >= 1);
    assert_memory_equal(known[0], digest, sizeof digest);
}

static void a_changed_file_is_read_again_and_it_alone(void **unused)
{
    uint8_t before[SHA256_BYTES], known[WEIGHTS_MODELS_MOST][SHA256_BYTES];
    struct stat s;
    struct timespec times[2];
    (void)unused;
    grow_old();
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    memcpy(before, digest, sizeof digest);

    /* As large as before, and as old, says whoever wrote it. */
    assert_int_equal(stat(first_shard, &s), 0);
    set_byte(first_shard, s.st_size - 1, 1);
    times[0] = s.st_atim, times[1] = s.st_mtim;
    assert_int_equal(utimensat(AT_FDCWD, first_shard, times, 0), 0);
    grow_old();
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    assert_memory_not_equal(digest, before, sizeof digest);
    assert_int_equal(cost.hashed_bytes, s.st_size);

    set_byte(first_shard, s.st_size - 1, 0);
    grow_old();
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    assert_memory_equal(digest, before, sizeof digest);
    assert_int_equal(cost.hashed_bytes, s.st_size);
    assert_int_equal(weights_digest_known(&memory, known), 2);
    assert_memory_equal(known[0], before, sizeof before);
}

static void a_young_file_is_not_remembered(void **unused)
{
    struct stat s;
    (void)unused;
    grow_old();
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    assert_int_equal(stat(first_shard, &s), 0);
    for (int tries = 0; tries < 100; tries++) {  // where the machine is busy, it may be old by then
        set_byte(first_shard, s.st_size - 1, 0);  // a change that changes nothing
        assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
        assert_int_equal(cost.hashed_bytes, s.st_size);
        assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
        if (cost.hashed_bytes) break;
    }
    assert_int_equal(cost.hashed_bytes, s.st_size);
}

static void a_damaged_memory_is_none(void **unused)
{
    uint8_t known[WEIGHTS_MODELS_MOST][SHA256_BYTES];
    char path[128];
    struct stat s;
    (void)unused;
    grow_old();
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    snprintf(path, sizeof path, "%s/weights", cache);
    assert_int_equal(stat(path, &s), 0);
    uint64_t bytes = cost.bytes;
    for (off_t at = 0; at < s.st_size; at += 1 + s.st_size / 97) {
        int fd = open(path, O_RDWR);
        char byte;
        assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
        close(fd);
        set_byte(path, at, (char)(byte ^ 1));
        assert_int_equal(weights_digest_known(&memory, known), 0);
        set_byte(path, at, byte);
    }
    assert_int_equal(truncate(path, s.st_size - 1), 0);
    assert_int_equal(take((struct weights_digest_options){ 0 }), OK);
    assert_int_equal(cost.hashed_bytes, bytes);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(take((struct weights_digest_options){ 0 }), BAD_INPUT);
    assert_int_equal(unlink(path), 0);
}

static void a_seed_and_the_config_are_a_model_of_random_weights(void **unused)
{
    uint8_t seven[SHA256_BYTES];
    (void)unused;
    assert_int_equal(
        take((struct weights_digest_options){ .random_weights = true, .random_seed = 7 }), OK);
    memcpy(seven, digest, sizeof digest);
    assert_int_equal(cost.files, 1);
    assert_int_equal(
        take((struct weights_digest_options){ .random_weights = true, .random_seed = 8 }), OK);
    assert_memory_not_equal(digest, seven, sizeof seven);
    assert_int_equal(
        take((struct weights_digest_options){ .random_weights = true, .random_seed = 7 }), OK);
    assert_memory_equal(digest, seven, sizeof seven);
}

static void note_progress(void *user, uint64_t bytes, uint64_t total)
{
    uint64_t *last = user;
    assert_true(bytes >= *last && bytes <= total);
    *last = bytes;
}

static void progress_ends_at_all_bytes_and_a_missing_shard_is_named(void **unused)
{
    uint64_t last = 0;
    char away[140];
    (void)unused;
    unlinkat(memory.dir_fd, "weights", 0);
    assert_int_equal(take((struct weights_digest_options){
                         .threads = 1, .progress = note_progress, .user = &last }),
                     OK);
    assert_int_equal(last, cost.bytes);
    snprintf(away, sizeof away, "%s.away", first_shard);
    assert_int_equal(rename(first_shard, away), 0);
    assert_int_not_equal(take((struct weights_digest_options){ 0 }), OK);
    assert_non_null(strstr(err.text, strrchr(first_shard, '/') + 1));
    assert_int_equal(rename(away, first_shard), 0);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Of the thread's own time, since others may use the machine too. */
static void a_core_reads_at_the_speed_that_the_header_says(void **unused)
{
    struct weights_digest_options options = { .threads = 1 };
    double best = 0;
    (void)unused;
    for (int round = 0; round < 5; round++) {
        unlinkat(memory.dir_fd, "weights", 0);
        uint64_t began = cpu_ns();
        assert_int_equal(take(options), OK);
        double rate = (double)cost.hashed_bytes / (double)(cpu_ns() - began);
        if (rate > best) best = rate;
    }
    print_message("%.2f GB/s of a core, from the page cache\n", best);
    assert_true(best > 0.01);  // slow machines and sanitizers too
}

static int make(void **unused)
{
    static struct shape shape;
    struct model_written written;
    struct st_set set;
    (void)unused;
    if (!mkdtemp(root)) return -1;
    snprintf(model, sizeof model, "%s/model", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    if (mkdir(model, 0755) || mkdir(cache, 0700)) return -1;
    if (shape_read("engine/testdata/small", &shape, &err) != OK) return -1;
    shape.vocab = 1 << 16;  // some files of more than one piece
    struct model_writer_options options = { .dir = model, .shape = &shape };
    if (model_write(&options, &written, &err) != OK) return -1;
    if (st_open_dir(model, &set, &err) != OK) return -1;
    snprintf(first_shard, sizeof first_shard, "%s", set.file[0].path);
    st_close(&set);
    memory = (struct private_file){ open(cache, O_RDONLY | O_DIRECTORY), cache, "weights" };
    return memory.dir_fd < 0;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static int unmake(void **unused)
{
    (void)unused;
    close(memory.dir_fd);
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_digest_is_of_name_size_and_content_of_every_file),
        cmocka_unit_test(a_second_start_reads_nothing),
        cmocka_unit_test(a_changed_file_is_read_again_and_it_alone),
        cmocka_unit_test(a_young_file_is_not_remembered),
        cmocka_unit_test(a_damaged_memory_is_none),
        cmocka_unit_test(a_seed_and_the_config_are_a_model_of_random_weights),
        cmocka_unit_test(progress_ends_at_all_bytes_and_a_missing_shard_is_named),
        cmocka_unit_test(a_core_reads_at_the_speed_that_the_header_says),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
