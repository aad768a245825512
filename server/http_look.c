/* http_look.c - route, key and headers of a request, in the order in which clients are told of faults. */
#include "server/http_look.h"
#include <string.h>
#include <strings.h>
#include <time.h>
#include "config/clock.h"
#include "config/metrics.h"
#include "config/options.h"
#include "server/errors.h"
#include "server/key_guard.h"
#include "server/limits_answer.h"
#include "server/service.h"

enum { NO_CONTENT = 204 };

static enum method method_of(const char *name)
{
    if (strcmp(name, "GET") == 0 || strcmp(name, "HEAD") == 0) return METHOD_GET;
    if (strcmp(name, "POST") == 0) return METHOD_POST;
    return strcmp(name, "OPTIONS") == 0 ? METHOD_OPTIONS : METHOD_OTHER;
}

static bool is_json(struct slice type)
{
    static const struct slice json = { "application/json", 16 };

    return type.size >= json.size && strncasecmp(type.data, json.data, json.size) == 0 &&
           (type.size == json.size || strchr("; \t", type.data[json.size]));
}

static bool set_deadline(struct request *request, struct slice text)
{
    char number[16], *end;

    if (!text.data) return true;
    if (text.size == 0 || text.size >= sizeof number) return false;
    memcpy(number, text.data, text.size);
    number[text.size] = 0;
    if (strspn(number, "0123456789.") != text.size) return false;
    double seconds = strtod(number, &end);
    if (*end || !(seconds > 0) || seconds > 86400) return false;
    request->deadline_ns = request->arrived_ns + (uint64_t)(seconds * (double)NS_PER_S);
    return true;
}

static void reject(struct request *request, enum refusal refusal, enum metric metric,
                   const char *sentence)
{
    metric_add(metric, 1);
    request_refuse(request, refusal, NULL, sentence);
}

/* Clients are told which of two: no key, or not a good one. Which part of it is wrong, or whether it
 * once was good, is for our counters alone. */
static bool key_is_good(struct request *request, const struct look *look)
{
    static const enum metric counters[] = {
        [ACCESS_NO_KEY] = METRIC_auth_missing,    [ACCESS_UNKNOWN] = METRIC_auth_unknown,
        [ACCESS_WRONG] = METRIC_auth_wrong,       [ACCESS_EXPIRED] = METRIC_auth_expired,
        [ACCESS_DISABLED] = METRIC_auth_disabled,
    };
    enum access_verdict verdict =
        access_find(look->access, look->headers->key, (int64_t)time(NULL), &request->caller);

    if (verdict == ACCESS_GRANTED) return true;
    struct key_guard *guard = request->service->guard;
    uint64_t wait_ns =
        guard && verdict != ACCESS_NO_KEY ? key_guard_wrong(guard, request->peer, look->now_ns) : 0;
    if (wait_ns) {
        metric_add(counters[verdict], 1);
        reject(request, REFUSE_RATE, METRIC_limit_keys,
               "too many wrong API keys have come from this address");
        request->retry_after_ms = (uint32_t)((wait_ns + NS_PER_MS - 1) / NS_PER_MS);
        return false;
    }
    reject(request, REFUSE_KEY, counters[verdict],
           verdict == ACCESS_NO_KEY
               ? "no API key was given: send it as `Authorization: Bearer KEY` or `X-Api-Key: KEY`"
               : "the API key is not valid");
    return false;
}

/* Is this the origin of a page that a daemon of this machine served? */
static bool is_of_this_machine(struct slice origin)
{
    static const char *const names[] = { "http://localhost", "http://127.", "http://[::1]" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size = strlen(names[i]);
        if (origin.size < size || memcmp(origin.data, names[i], size) != 0) continue;
        struct slice rest = slice_from(origin, size);
        if (names[i][size - 1] == '.')  // the rest of an IPv4 address
            while (rest.size && strchr("0123456789.", rest.data[0])) rest = slice_from(rest, 1);
        return rest.size == 0 || rest.data[0] == ':';
    }
    return false;
}

/* Where loopback is all that keeps others out, a page of any site could still have its visitor's browser
 * ask, by a name of its own that leads here. The browser says whose page it is. */
static bool is_of_a_foreign_page(const struct request *request, const struct look *look)
{
    struct slice origin = look->headers->origin;

    if (!look->loopback || request->caller.key || !origin.size) return false;
    return !look->cross_origin && !is_of_this_machine(origin);
}

/* True: it may go on. */
static bool check_caller(struct request *request, const struct look *look,
                         const struct route *route)
{
    enum access_scope scope = route->scope == SCOPE_METRICS ? ACCESS_METRICS : ACCESS_API;

    if (route->scope == SCOPE_OPEN || !look->access) return true;
    if (!key_is_good(request, look)) return false;
    if (scope == ACCESS_METRICS && !request->caller.key && !look->loopback) {
        reject(request, REFUSE_PERMISSION, METRIC_auth_scope,
               "without keys, metrics are not served to other machines; the admin socket has them");
        return false;
    }
    if (is_of_a_foreign_page(request, look)) {
        reject(request, REFUSE_PERMISSION, METRIC_auth_scope,
               "without keys, pages of other web origins are not served: --cors-origin lists those "
               "that may, and --keys lets only who has one");
        return false;
    }
    if (caller_has_scope(&request->caller, scope)) return true;
    reject(request, REFUSE_PERMISSION, METRIC_auth_scope,
           scope == ACCESS_METRICS ? "this key lacks the scope \"metrics\""
                                   : "this key lacks the scope \"api\"");
    return false;
}

/* Before a byte of the body is read, whether its tenant may have one more request. */
static void take_claim(struct request *request, uint64_t now_ns)
{
    struct limits *limits = request->service->limits;
    struct limits_refusal refusal;

    if (!limits || !request->caller.tenant) return;
    if (limits_take(limits, &request->caller, now_ns, &request->claim, &refusal) != OK)
        limits_refuse(request, &refusal);
}

void http_look(struct request *request, struct look *look)
{
    enum method method = method_of(look->method);
    struct slice path = slice_of(look->path);
    struct route_match match = route_find(look->routes, method, path);
    const struct headers *headers = look->headers;

    if (match.route) request->route = match.route->path;
    request->base = match.base;
    request->tail = arena_copy(&request->arena, match.tail);
    if (headers->if_none_match.size)
        request->if_none_match = arena_copy(&request->arena, headers->if_none_match);
    if (!match.allow) return reject(request, REFUSE_PATH, METRIC_reject_route, route_refusal(path));
    if (method == METHOD_OPTIONS && look->cross_origin) {
        request->http_status = NO_CONTENT;
        request->done = true;
        return;
    }
    if (!match.route) {
        reject(request, REFUSE_METHOD, METRIC_reject_route,
               "this path is not served by this method");
        request->allow = match.allow;
        return;
    }
    request->handler = match.route->handler;
    look->timed = match.route->scope == SCOPE_API;
    look->body = match.route->body;
    if (!check_caller(request, look, match.route)) return;
    if (!set_deadline(request, headers->timeout))
        return reject(request, REFUSE_BAD_REQUEST, METRIC_reject_header,
                      "X-Request-Timeout: wanted seconds, more than 0 and at most 86400");
    if (look->body && headers->content_type.data && !is_json(headers->content_type))
        return reject(request, REFUSE_MEDIA_TYPE, METRIC_reject_header,
                      "Content-Type: wanted application/json");
    if (look->body) take_claim(request, look->now_ns);
}
