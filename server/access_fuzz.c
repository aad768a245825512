/* access_fuzz.c - any bytes as a key file: refused with a sentence, or a table that is written and read
 * again as the same one, and in which any bytes are looked up as a key. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server/access_edit.h"
#include "server/access_parts.h"

static struct access *read_text(const void *data, size_t size, struct err *err)
{
    int fd = memfd_create("keys", MFD_CLOEXEC);
    struct access *access = access_new();

    must(access && fd >= 0 && write(fd, data, size) == (ssize_t)size);
    must(fchmod(fd, 0600) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    enum status status = access_read(access, fd, "keys", err);
    close(fd);
    if (status == OK) return access;
    must(status == BAD_INPUT && err->text[0]);
    access_drop(access);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct caller caller = { 0 };
    struct err err = { "" };
    struct access *access = read_text(data, size, &err);
    struct buf first, second;

    if (!access) return 0;
    buf_init(&first, 0);
    buf_init(&second, 0);
    access_write(access, &first);
    must(buf_status(&first) == OK);
    struct access *again = read_text(first.data, first.size, &err);
    must(again);
    access_write(again, &second);
    must(slice_equal(buf_slice(&first), buf_slice(&second)));
    access_drop(again);
    buf_release(&first);
    buf_release(&second);
    if (access->tenants < 8 && access_finish(access, "keys", &err) == OK) {
        const struct slice key = { (const char *)data, size };
        must(access_find(access, key, 1, &caller) != ACCESS_GRANTED);
    }
    access_drop(access);
    return 0;
}
