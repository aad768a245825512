/* page.c - the built-in page: a chat and the metrics, in a browser, from this one program.
 *
 * Its files are written by hand under server/page/ and copied into the program. They are the same for
 * everybody and hold no secret, so they need no key; what the page asks of the API does. What the model
 * wrote must not become part of the page: it enters the document as text alone, and should that ever
 * fail, the policy below lets the browser run nothing but these files.
 */
#include <inttypes.h>
#include "config/hash.h"
#include "config/options.h"
#include "server/answer_header.h"
#include "server/errors.h"
#include "server/handlers.h"
#include "server/service.h"

/* NAME[0 .. NAME_end) are the bytes of a file, which the Makefile has prepared. */
#define EMBED(name, file)                                                                          \
    __asm__(".section .rodata\n" #name ": .incbin \"" file "\"\n" #name "_end: .byte 0\n"          \
            ".previous\n");                                                                        \
    extern const char name[] __attribute__((visibility("hidden"))),                                \
        name##_end[] __attribute__((visibility("hidden")))

EMBED(page_html, "index.html");
EMBED(page_style, "page.css");
EMBED(page_icon, "icon.svg");
EMBED(page_script, "page.js");

static const char policy[] = "default-src 'self'; base-uri 'none'; form-action 'none'; "
                             "frame-ancestors 'none'; object-src 'none'; "
                             "require-trusted-types-for 'script'; trusted-types 'none'";

static const struct {
    const char *name, *value;
} headers[] = {
    { "Content-Security-Policy", policy },
    { "X-Content-Type-Options", "nosniff" },
    { "Referrer-Policy", "no-referrer" },
    { "Cross-Origin-Opener-Policy", "same-origin" },
    { "Cross-Origin-Resource-Policy", "same-origin" },
    { "Cache-Control", "no-cache" },  // kept, and asked about each time: a new program, a new page
};

/* RFC 9110 13.1.2: `*`, or a list of tags, weak ones too; ours has no comma inside. */
static bool is_known(struct slice tags, struct slice tag)
{
    while (tags.size > 0) {
        const char *comma = memchr(tags.data, ',', tags.size);
        struct slice one = { tags.data, comma ? (size_t)(comma - tags.data) : tags.size };

        tags = slice_from(tags, comma ? one.size + 1 : one.size);
        while (one.size > 0 && (*one.data == ' ' || *one.data == '\t')) one = slice_from(one, 1);
        while (one.size > 0 && strchr(" \t", one.data[one.size - 1])) one.size--;
        if (slice_starts(one, SLICE("W/"))) one = slice_from(one, 2);
        if (slice_equal(one, tag) || slice_equal(one, SLICE("*"))) return true;
    }
    return false;
}

static void answer_file(struct request *request, struct slice file, const char *type)
{
    char tag[24];

    if (!request->service->page || request->base != BASE_NONE)
        return request_refuse(request, REFUSE_PATH, NULL,
                              request->service->page ? "there is nothing under this path"
                                                     : "the built-in page is off: --ui on has it");
    snprintf(tag, sizeof tag, "\"%016" PRIx64 "\"", hash64(file.data, file.size, 0));
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        answer_header_add(request, headers[i].name, headers[i].value);
    answer_header_add(request, "ETag", tag);
    request->content_type = type;
    if (is_known(request->if_none_match, slice_of(tag))) request->http_status = 304;
    buf_add_slice(&request->out, file);  // of a 304 only its length is sent: RFC 9110 15.4.5
}

static struct slice bytes_between(const char *begin, const char *end)
{
    return (struct slice){ begin, (size_t)(end - begin) };
}

static void answer_html(struct request *request)
{
    answer_file(request, bytes_between(page_html, page_html_end), "text/html; charset=utf-8");
}

static void answer_style(struct request *request)
{
    answer_file(request, bytes_between(page_style, page_style_end), "text/css; charset=utf-8");
}

static void answer_icon(struct request *request)
{
    answer_file(request, bytes_between(page_icon, page_icon_end), "image/svg+xml");
}

static void answer_script(struct request *request)
{
    answer_file(request, bytes_between(page_script, page_script_end),
                "text/javascript; charset=utf-8");
}

const struct handler page_handler = { .answer = answer_html };
const struct handler page_style_handler = { .answer = answer_style };
const struct handler page_icon_handler = { .answer = answer_icon };
const struct handler page_script_handler = { .answer = answer_script };
