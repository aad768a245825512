/* status.h - what a call may come to, what must always hold, and the sentence a person reads. */
#ifndef CONFIG_STATUS_H
#define CONFIG_STATUS_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#undef fail  // cmocka's macro, where a test included it first

enum status {
    OK,
    BAD_INPUT,
    TOO_LONG,
    BUSY,
    CANCELLED,
    NO_MEMORY,
    IO_FAILED,
    DEVICE_FAILED,
};

#define CHECKED __attribute__((warn_unused_result))

/* States a fact that our own code guarantees. Stays on in release builds: a wrong state stops the
 * daemon here, where it can be read, rather than in an answer. */
#define must(fact) ((fact) ? (void)0 : must_failed(#fact, __FILE__, __LINE__))

__attribute__((noreturn)) static inline void must_failed(const char *fact, const char *file,
                                                         int line)
{
    fprintf(stderr, "%s:%d: must hold: %s\n", file, line, fact);
    abort();
}

/* The sentence that explains a failure: the file or field, the value found, the value wanted. */
struct err {
    char text[512];
};

/* Fills err (which may be NULL) and returns status, so that a refusal is one line:
 * return fail(err, BAD_INPUT, "max_tokens: found %lld, wanted 1 or more", n);
 * The parentheses keep cmocka's macro of the same name away. */
__attribute__((format(printf, 3, 4))) static inline enum status(fail)(struct err *err,
                                                                      enum status status,
                                                                      const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return status;
}

#endif
