/* routes.c - the table of everything that is served, and the search through it. */
#include "server/routes.h"
#include "server/handlers.h"

const struct route routes[] = {
    { "/health", METHOD_GET, SCOPE_OPEN, &health_handler, false },
    { "/live", METHOD_GET, SCOPE_OPEN, &health_handler, false },
    { "/livez", METHOD_GET, SCOPE_OPEN, &health_handler, false },
    { "/ready", METHOD_GET, SCOPE_OPEN, &ready_handler, false },
    { "/readyz", METHOD_GET, SCOPE_OPEN, &ready_handler, false },
    { "/version", METHOD_GET, SCOPE_OPEN, &version_handler, false },
    { "/", METHOD_GET, SCOPE_OPEN, &page_handler, false },
    { "/page.css", METHOD_GET, SCOPE_OPEN, &page_style_handler, false },
    { "/page.js", METHOD_GET, SCOPE_OPEN, &page_script_handler, false },
    { "/icon.svg", METHOD_GET, SCOPE_OPEN, &page_icon_handler, false },
    { "/metrics", METHOD_GET, SCOPE_METRICS, &metrics_handler, false },
    { "/chat/completions", METHOD_POST, SCOPE_API, &chat_handler, true },
    { "/completions", METHOD_POST, SCOPE_API, &completions_handler, true },
    { "/responses", METHOD_POST, SCOPE_API, &responses_handler, true },
    { "/responses/input_tokens", METHOD_POST, SCOPE_API, &input_tokens_handler, true },
    { "/messages", METHOD_POST, SCOPE_API, &messages_handler, true },
    { "/messages/count_tokens", METHOD_POST, SCOPE_API, &count_tokens_handler, true },
    { "/tokenize", METHOD_POST, SCOPE_API, &tokenize_handler, true },
    { "/detokenize", METHOD_POST, SCOPE_API, &detokenize_handler, true },
    { "/user/balance", METHOD_GET, SCOPE_API, &balance_handler, false },
    { "/models", METHOD_GET, SCOPE_API, &models_handler, false },
    { "/models/*", METHOD_GET, SCOPE_API, &model_handler, false },
    { NULL, 0, 0, NULL, false },
};

/* What other servers have under these paths, and why it is not here; `*` as in routes. */
static const struct {
    const char *path, *why;
} refusals[] = {
    { "/files", "files are not kept here: this model reads text, which a request brings itself" },
    { "/files/*", "files are not kept here: this model reads text, which a request brings itself" },
    { "/audio/*", "there is no audio here: this model reads and writes text" },
    { "/images/*", "there are no images here: this model reads and writes text" },
    { "/embeddings", "there are no embeddings here: this model writes text" },
    { "/rerank", "there is no ranking here: this model writes text" },
    { "/moderations", "there is no moderation here: this model writes text" },
    { "/batches", "batches are not kept here: send the requests themselves" },
    { "/batches/*", "batches are not kept here: send the requests themselves" },
    { "/messages/batches", "batches are not kept here: send the requests themselves" },
    { "/messages/batches/*", "batches are not kept here: send the requests themselves" },
    { "/responses/*", "responses are not kept here: each request brings its whole input" },
    { "/conversations", "conversations are not kept here: each request brings its whole input" },
    { "/conversations/*", "conversations are not kept here: each request brings its whole input" },
    { "/assistants", "assistants are not kept here: each request brings its whole conversation" },
    { "/assistants/*", "assistants are not kept here: each request brings its whole conversation" },
    { "/threads/*", "threads are not kept here: each request brings its whole conversation" },
    { "/vector_stores", "there is no search here: a request brings its texts itself" },
    { "/vector_stores/*", "there is no search here: a request brings its texts itself" },
    { "/fine_tuning/*", "there is no training here: the model is served as it is" },
    { NULL, "there is nothing under this path" },
};

static bool cut_base(struct slice *path, struct slice base)
{
    if (!slice_starts(*path, base)) return false;
    if (path->size > base.size && path->data[base.size] != '/') return false;
    *path = slice_from(*path, base.size);
    return true;
}

static enum base_path take_base(struct slice *path)
{
    enum base_path base = BASE_NONE;

    if (cut_base(path, SLICE("/beta"))) base = BASE_BETA;
    else if (cut_base(path, SLICE("/anthropic"))) base = BASE_ANTHROPIC;
    if (cut_base(path, SLICE("/v1")) && base == BASE_NONE) base = BASE_V1;
    return base;
}

static bool path_matches(struct slice pattern, struct slice path, struct slice *tail)
{
    if (pattern.data[pattern.size - 1] != '*') return slice_equal(pattern, path);
    pattern.size--;
    if (!slice_starts(path, pattern) || path.size == pattern.size) return false;
    *tail = slice_from(path, pattern.size);
    return true;
}

static void cut_slash(struct slice *path)
{
    if (path->size > 1 && path->data[path->size - 1] == '/') path->size--;
}

const char *route_refusal(struct slice path)
{
    struct slice tail;
    size_t row = 0;

    take_base(&path);
    cut_slash(&path);
    while (refusals[row].path && !path_matches(slice_of(refusals[row].path), path, &tail)) row++;
    return refusals[row].why;
}

struct route_match route_find(const struct route *table, enum method method, struct slice path)
{
    struct route_match match = { .base = take_base(&path) };

    cut_slash(&path);
    for (const struct route *route = table; route->path; route++) {
        if (!path_matches(slice_of(route->path), path, &match.tail)) continue;
        match.allow |= (uint16_t)route->method;
        if (route->method == method) match.route = route;
    }
    return match;
}
