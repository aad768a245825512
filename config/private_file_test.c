/* private_file_test.c - what others could have made is refused; what is written is there whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/private_file.h"

static char dir[] = "/tmp/fathom-private-XXXXXX";
static struct private_file file;

static enum status read_text(char text[64], bool *found, struct err *err)
{
    struct buf out;
    buf_init(&out, 63);
    enum status status = private_file_read(&file, &out, found, err);
    memcpy(text, out.data ? out.data : "", out.size);
    text[out.size] = 0;
    buf_release(&out);
    return status;
}

static void a_file_that_was_never_written_is_not_found(void **unused)
{
    char text[64];
    bool found = true;
    struct err err;
    (void)unused;
    assert_int_equal(read_text(text, &found, &err), OK);
    assert_false(found);
}

static void what_is_written_replaces_what_was_there_and_is_ours_alone(void **unused)
{
    char text[64];
    bool found;
    struct err err;
    struct stat s;
    (void)unused;
    mode_t mask = umask(0);
    int fd =
        openat(file.dir_fd, "it.new", O_WRONLY | O_CREAT, 0666);  // of a writer that was killed
    assert_true(fd >= 0 && write(fd, "half of a much longer text", 26) == 26);
    close(fd);
    assert_int_equal(private_file_write(&file, SLICE("first"), &err), OK);
    assert_int_equal(private_file_write(&file, SLICE("then"), &err), OK);
    umask(mask);
    assert_int_equal(read_text(text, &found, &err), OK);
    assert_true(found);
    assert_string_equal(text, "then");
    assert_int_equal(fstatat(file.dir_fd, "it", &s, 0), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(faccessat(file.dir_fd, "it.new", F_OK, 0), -1);
}

static void what_others_could_have_made_is_refused(void **unused)
{
    char text[64];
    bool found;
    struct err err = { "" };
    (void)unused;
    assert_int_equal(private_file_write(&file, SLICE("mine"), &err), OK);
    assert_int_equal(fchmodat(file.dir_fd, "it", 0640, 0), 0);
    assert_int_equal(read_text(text, &found, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "/it: found mode 0640"));
    assert_int_equal(unlinkat(file.dir_fd, "it", 0), 0);

    assert_int_equal(symlinkat("/etc/passwd", file.dir_fd, "it"), 0);
    assert_int_equal(read_text(text, &found, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "/it: found a link"));
    assert_int_equal(unlinkat(file.dir_fd, "it", 0), 0);

    assert_int_equal(mkfifoat(file.dir_fd, "it", 0600), 0);
    assert_int_equal(read_text(text, &found, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "/it: found something else"));
    assert_int_equal(unlinkat(file.dir_fd, "it", 0), 0);

    char much[200] = { 0 };
    assert_int_equal(private_file_write(&file, (struct slice){ much, sizeof much }, &err), OK);
    assert_int_equal(read_text(text, &found, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "/it: found more than the 63 bytes"));
    assert_int_equal(unlinkat(file.dir_fd, "it", 0), 0);
}

static void a_directory_that_cannot_be_written_leaves_what_was_there(void **unused)
{
    char text[64];
    bool found;
    struct err err = { "" };
    (void)unused;
    assert_int_equal(private_file_write(&file, SLICE("kept"), &err), OK);
    assert_int_equal(mkdirat(file.dir_fd, "it.new", 0700), 0);  // stands where the new one would go
    assert_int_equal(private_file_write(&file, SLICE("lost"), &err), IO_FAILED);
    assert_non_null(strstr(err.text, "/it: cannot be written"));
    assert_int_equal(unlinkat(file.dir_fd, "it.new", AT_REMOVEDIR), 0);
    assert_int_equal(read_text(text, &found, &err), OK);
    assert_string_equal(text, "kept");
}

static int open_dir(void **unused)
{
    (void)unused;
    if (!mkdtemp(dir)) return -1;
    file = (struct private_file){ open(dir, O_RDONLY | O_DIRECTORY), dir, "it" };
    return file.dir_fd >= 0 ? 0 : -1;
}

static int remove_dir(void **unused)
{
    (void)unused;
    unlinkat(file.dir_fd, "it", 0);
    close(file.dir_fd);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_was_never_written_is_not_found),
        cmocka_unit_test(what_is_written_replaces_what_was_there_and_is_ours_alone),
        cmocka_unit_test(what_others_could_have_made_is_refused),
        cmocka_unit_test(a_directory_that_cannot_be_written_leaves_what_was_there),
    };
    return cmocka_run_group_tests(tests, open_dir, remove_dir);
}
