/* options_fuzz.c - whatever stands in the option file, loading ends in options or in a sentence. */
#include <unistd.h>
#include <sys/mman.h>
#include "config/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *env[] = { NULL };
    char path[64];
    int fd = memfd_create("options", 0);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    must(lseek(fd, 0, SEEK_SET) == 0);

    struct options_input input = { 2, (char *[]){ "-c", path }, env, NULL };
    struct options options;
    struct err err = { "" };
    if (options_read(&input, &options, &err) == OK) {
        must(options.max_seqs >= 1 && options.body_limit_bytes >= 1024);
        options_release(&options);
    } else {
        must(err.text[0]);
    }
    close(fd);
    return 0;
}
