/* bench_fairness.c - tenants beside each other on one engine, without HTTP: a polite one of a request a
 * second alone and beside a greedy one of many long requests, then two that always want more, by
 * weight.
 *
 * The fair share of the machine alone is what the polite tenant sees with the machine to itself,
 * stretched by the inverse of its share: half the machine is one of half the speed.
 */
#include "engine/bench_fairness.h"
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "config/clock.h"
#include "engine/engine.h"

enum { TENANTS = 2, REQUESTS_MOST = 4096, SAMPLES_MOST = 1 << 20, EVENTS = 256, VOCAB_FROM = 256 };

static const char usage[] =
    "usage: fathom-bench fairness --model DIR [--backend auto|cpu|cuda] [--weights "
    "random:SEED|checkpoint]\n"
    "                    [--threads N] [--gpu N] [--max-seqs N] [--step-tokens N] [--shared-step "
    "MS]\n"
    "                    [--polite PROMPT,OUTPUT] [--greedy REQUESTS,PROMPT,OUTPUT] [--every MS]\n"
    "                    [--loop REQUESTS,PROMPT,OUTPUT] [--seconds ALONE,TOGETHER,WEIGHTS]\n"
    "  Lengths in tokens. --loop: of each tenant of the part with weights 1 and 3. 0 seconds leave "
    "a\n"
    "  part out.\n";

struct habit {
    uint32_t requests, prompt, output;  // requests: always so many; 0: one every so often
};

struct options {
    struct engine_options engine;
    struct habit polite, greedy, loop;
    uint32_t every_ms, alone_s, together_s, weights_s;
};

/* ---- samples --------------------------------------------------------------------------------- */

struct samples {
    double *ms;  // [count]
    uint32_t count;
};

static void note(struct samples *samples, double ms)
{
    if (samples->count < SAMPLES_MOST) samples->ms[samples->count++] = ms;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank; the list is sorted by it. */
static double quantile(struct samples *samples, double share)
{
    if (!samples->count) return 0;
    qsort(samples->ms, samples->count, sizeof *samples->ms, ascending);
    uint32_t rank = (uint32_t)ceil(samples->count * share);
    return samples->ms[rank ? rank - 1 : 0];
}

/* What one tenant saw. */
struct seen {
    struct samples first, gap, mean;  // to the first token; between two; of each answer
};

/* ---- requests -------------------------------------------------------------------------------- */

struct request {
    uint64_t id;  // 0: free
    uint32_t tenant, tokens;
    uint64_t sent_ns, first_ns, token_ns;
};

struct bench {
    const struct options *options;
    struct engine *engine;
    struct request request[REQUESTS_MOST];
    uint64_t next_id, random, first_tenant;
    uint32_t vocab;
    uint32_t here[TENANTS];  // requests under way
    uint64_t ended[TENANTS];
    uint32_t weight[TENANTS];
    struct habit habit[TENANTS];
    struct seen seen[TENANTS];
    uint64_t from_ns;  // requests sent before count for nothing
};

static enum status send_one(struct bench *b, uint32_t tenant, struct err *err)
{
    const struct habit *habit = &b->habit[tenant];
    struct request *request = &b->request[++b->next_id % REQUESTS_MOST];
    struct job *job = calloc(1, sizeof *job);
    uint32_t *prompt = calloc(habit->prompt, sizeof *prompt);
    must(job && prompt && !request->id);
    *request = (struct request){ .id = b->next_id, .tenant = tenant, .sent_ns = now_ns() };
    *job = (struct job){ .id = request->id,
                         .prompt = prompt,
                         .prompt_tokens = habit->prompt,
                         .max_tokens = habit->output,
                         .sampling = { .temperature = 1, .top_p = 1, .repetition = 1 },
                         .tenant = b->first_tenant + tenant,
                         .weight = b->weight[tenant] };
    for (uint32_t i = 0; i < habit->prompt; i++) {
        b->random = b->random * 6364136223846793005u + 1442695040888963407u;
        prompt[i] = (uint32_t)(b->random >> 33) % b->vocab;
    }
    b->here[tenant]++;
    enum status status = engine_submit(b->engine, job, err);
    if (status != OK) job_free(job);
    return status;
}

static void take_tokens(struct bench *b, struct request *request, uint32_t count)
{
    struct seen *seen = &b->seen[request->tenant];
    uint64_t now = now_ns();
    bool counts = request->sent_ns >= b->from_ns;
    if (!request->tokens) {
        request->first_ns = now;
        if (counts) note(&seen->first, (double)(now - request->sent_ns) / 1e6);
    } else if (counts) {
        note(&seen->gap, (double)(now - request->token_ns) / 1e6);
    }
    request->token_ns = now;
    request->tokens += count;
}

static void take_end(struct bench *b, struct request *request, enum finish finish)
{
    struct seen *seen = &b->seen[request->tenant];
    if (finish == FINISH_LENGTH && request->tokens > 1 && request->sent_ns >= b->from_ns)
        note(&seen->mean,
             (double)(request->token_ns - request->first_ns) / 1e6 / (request->tokens - 1));
    b->ended[request->tenant] += finish == FINISH_LENGTH;
    b->here[request->tenant]--;
    request->id = 0;
}

/* The engine's news, for which it waits until then. */
static enum status take_news(struct bench *b, uint64_t until_ns, struct err *err)
{
    struct pollfd ready = { .fd = engine_event_fd(b->engine), .events = POLLIN };
    struct event event[EVENTS];
    uint64_t rings, now = now_ns();
    uint32_t count;
    int ms = until_ns > now ? (int)((until_ns - now) / NS_PER_MS) + 1 : 0;
    if (poll(&ready, 1, ms) <= 0) return OK;
    if (read(ready.fd, &rings, sizeof rings) < 0) return OK;
    while ((count = engine_take_events(b->engine, event, EVENTS)) > 0)
        for (uint32_t i = 0; i < count; i++) {
            struct request *request = &b->request[event[i].job % REQUESTS_MOST];
            must(request->id == event[i].job);
            if (event[i].kind == EVENT_TOKENS) take_tokens(b, request, event[i].count);
            if (event[i].kind != EVENT_END) continue;
            if (event[i].finish == FINISH_FAILED)
                return fail(err, DEVICE_FAILED, "request %llu failed",
                            (unsigned long long)event[i].job);
            take_end(b, request, event[i].finish);
        }
    return OK;
}

/* Lets the tenants do as they do for so long. */
static enum status play(struct bench *b, double seconds, struct err *err)
{
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * (double)NS_PER_S);
    uint64_t every_ns = b->options->every_ms * (uint64_t)NS_PER_MS, next = start;
    enum status status = OK;
    for (uint64_t now; status == OK && (now = now_ns()) < end;) {
        for (uint32_t t = 0; t < TENANTS && status == OK; t++)
            while (b->here[t] < b->habit[t].requests && status == OK) status = send_one(b, t, err);
        bool due = b->habit[0].prompt && !b->habit[0].requests && now >= next;
        if (due && status == OK) {
            next += every_ns;
            status = send_one(b, 0, err);
        }
        if (status == OK) status = take_news(b, next > now && next < end ? next : end, err);
    }
    return status;
}

/* Ends what is under way: with `whole` what is left of tenant 0 runs to its end first. */
static enum status settle(struct bench *b, bool whole, struct err *err)
{
    enum status status = OK;
    while (whole && b->here[0] && status == OK) status = take_news(b, now_ns() + NS_PER_S, err);
    for (uint32_t i = 0; i < REQUESTS_MOST; i++)
        if (b->request[i].id) engine_cancel(b->engine, b->request[i].id);
    while (b->here[0] + b->here[1] && status == OK) status = take_news(b, now_ns() + NS_PER_S, err);
    memset(b->habit, 0, sizeof b->habit);
    return status;
}

static void clear_seen(struct bench *b)
{
    b->from_ns = now_ns();
    for (uint32_t t = 0; t < TENANTS; t++) {
        b->seen[t].first.count = b->seen[t].gap.count = b->seen[t].mean.count = 0;
        b->ended[t] = 0;
    }
}

static uint64_t tokens_of(struct bench *b, uint32_t tenant)
{
    struct engine_stats stats;
    engine_stats(b->engine, &stats);
    for (uint32_t i = 0; i < stats.tenants; i++)
        if (stats.tenant[i].tenant == b->first_tenant + tenant)
            return stats.tenant[i].prompt_tokens + stats.tenant[i].output_tokens;
    return 0;
}

/* ---- the parts ------------------------------------------------------------------------------- */

struct figures {
    double first[3], gap[3], mean[3];  // median, p99, greatest
    uint32_t requests;
};

static struct figures figures_of(struct seen *seen)
{
    struct figures figures = { .requests = seen->first.count };
    static const double share[] = { 0.5, 0.99, 1 };
    for (int i = 0; i < 3; i++) {
        figures.first[i] = quantile(&seen->first, share[i]);
        figures.gap[i] = quantile(&seen->gap, share[i]);
        figures.mean[i] = quantile(&seen->mean, share[i]);
    }
    return figures;
}

static void print_row(const char *what, const struct figures *f, double stretch)
{
    printf("%-22s %8u", what, f->requests);
    for (int i = 0; i < 3; i++) printf(" %9.1f", f->first[i] * stretch);
    for (int i = 0; i < 3; i++) printf(" %8.2f", f->mean[i] * stretch);
    for (int i = 0; i < 3; i++) printf(" %8.2f", f->gap[i] * stretch);
    putchar('\n');
    (void)fflush(stdout);
}

static enum status greedy_and_polite(struct bench *b, struct err *err)
{
    const struct options *o = b->options;
    enum status status = OK;
    struct figures alone, both;
    printf("\npolite: %u tokens in, %u out, every %u ms; greedy: %u requests of %u in, %u out\n"
           "ms                     requests  first p50       p99       max mean p50      p99      "
           "max  "
           "gap p50      p99      max\n",
           o->polite.prompt, o->polite.output, o->every_ms, o->greedy.requests, o->greedy.prompt,
           o->greedy.output);
    b->habit[0] = o->polite;
    if ((status = play(b, 2, err)) != OK) return status;
    clear_seen(b);
    if ((status = play(b, o->alone_s, err)) != OK) return status;
    if ((status = settle(b, true, err)) != OK) return status;
    alone = figures_of(&b->seen[0]);
    print_row("alone", &alone, 1);
    print_row("its half alone (x 2)", &alone, 2);

    b->habit[0] = o->polite;
    b->habit[1] = o->greedy;
    if ((status = play(b, 3, err)) != OK) return status;
    uint64_t greedy = tokens_of(b, 1), start = now_ns();
    clear_seen(b);
    if ((status = play(b, o->together_s, err)) != OK) return status;
    double seconds = (double)(now_ns() - start) / 1e9;
    double rate = (double)(tokens_of(b, 1) - greedy) / seconds;
    if ((status = settle(b, true, err)) != OK) return status;
    both = figures_of(&b->seen[0]);
    print_row("beside the greedy one", &both, 1);
    printf(
        "rise over its half: first token p99 %+.1f %%, inter-token time of an answer p99 %+.1f %%; "
        "greedy: %.0f tokens/s, %llu requests ended\n",
        100 * (both.first[1] / (2 * alone.first[1]) - 1),
        100 * (both.mean[1] / (2 * alone.mean[1]) - 1), rate, (unsigned long long)b->ended[1]);
    (void)fflush(stdout);
    return OK;
}

static enum status by_weight(struct bench *b, struct err *err)
{
    const struct options *o = b->options;
    uint64_t before[TENANTS], tokens[TENANTS];
    b->habit[0] = b->habit[1] = o->loop;
    b->weight[1] = 3;
    b->first_tenant += TENANTS;  // nobody owes anything yet
    enum status status = play(b, 3, err);
    if (status != OK) return status;
    clear_seen(b);
    for (uint32_t t = 0; t < TENANTS; t++) before[t] = tokens_of(b, t);
    if ((status = play(b, o->weights_s, err)) != OK) return status;
    for (uint32_t t = 0; t < TENANTS; t++) tokens[t] = tokens_of(b, t) - before[t];
    printf("\nweights 1 and 3, each %u requests of %u in, %u out, for %u s\n", o->loop.requests,
           o->loop.prompt, o->loop.output, o->weights_s);
    for (uint32_t t = 0; t < TENANTS; t++)
        printf("weight %u: %10llu tokens, %5llu requests ended, first token p99 %.0f ms\n",
               b->weight[t], (unsigned long long)tokens[t], (unsigned long long)b->ended[t],
               quantile(&b->seen[t].first, 0.99));
    printf("tokens 1:%.3f (%+.2f %%)\n", (double)tokens[1] / (double)tokens[0],
           100 * ((double)tokens[1] / (double)tokens[0] / 3 - 1));
    b->weight[1] = 1;
    return settle(b, false, err);
}

static enum status run(struct bench *b, const struct options *o, struct err *err)
{
    uint64_t start = now_ns();
    enum status status = engine_open(&o->engine, &b->engine, err);
    if (status != OK) return status;
    struct engine_stats stats;
    engine_stats(b->engine, &stats);
    printf("open after %.1f s: %u blocks, context %u\n", (double)(now_ns() - start) / 1e9,
           stats.blocks, stats.context);
    if (o->alone_s && o->together_s) status = greedy_and_polite(b, err);
    if (status == OK && o->weights_s) status = by_weight(b, err);
    engine_stats(b->engine, &stats);
    printf("%llu steps, preempted %llu, of these %llu for others' shares\n",
           (unsigned long long)stats.steps, (unsigned long long)stats.preempted,
           (unsigned long long)stats.preempted_for_share);
    engine_close(b->engine);
    return status;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static bool numbers(const char *text, uint32_t *const *value, int count)
{
    for (int i = 0; i < count; i++) {
        char *end;
        unsigned long number = strtoul(text, &end, 10);
        if (end == text || *end != (i + 1 < count ? ',' : '\0') || number > 1u << 24) return false;
        *value[i] = (uint32_t)number;
        text = end + 1;
    }
    return true;
}

static bool read_habit(const char *text, struct habit *habit)
{
    uint32_t *value[] = { &habit->requests, &habit->prompt, &habit->output };
    return numbers(text, value, 3) && habit->requests && habit->requests < REQUESTS_MOST / 4 &&
           habit->prompt && habit->output;
}

static bool read_option(struct options *o, int option, const char *text)
{
    uint32_t number = 0, *one[] = { &number };
    struct engine_options *e = &o->engine;
    switch (option) {
    case 'm':
        e->model = text;
        return true;
    case 'b':
        e->backend = text;
        return true;
    case 'w':
        e->random_weights = strncmp(text, "random:", 7) == 0;
        e->random_seed = e->random_weights ? strtoull(text + 7, NULL, 10) : 0;
        return e->random_weights || strcmp(text, "checkpoint") == 0;
    case 'P':
        return numbers(text, (uint32_t *[]){ &o->polite.prompt, &o->polite.output }, 2);
    case 'G':
        return read_habit(text, &o->greedy);
    case 'L':
        return read_habit(text, &o->loop);
    case 'S':
        return numbers(text, (uint32_t *[]){ &o->alone_s, &o->together_s, &o->weights_s }, 3);
    default:
        break;
    }
    if (option == '?' || !numbers(text, one, 1)) return false;
    if (option == 't') e->dev.threads = number;
    if (option == 'g') e->dev.index = (int)number;
    if (option == 's') e->most_seqs = number;
    if (option == 'T') e->step_tokens = number;
    if (option == 'd') e->shared_step_ns = number * (uint64_t)NS_PER_MS;
    if (option == 'e') o->every_ms = number;
    return true;
}

static bool read_arguments(struct options *o, int argc, char **argv)
{
    static const struct option names[] = {
        { "model", required_argument, NULL, 'm' },
        { "backend", required_argument, NULL, 'b' },
        { "weights", required_argument, NULL, 'w' },
        { "threads", required_argument, NULL, 't' },
        { "gpu", required_argument, NULL, 'g' },
        { "max-seqs", required_argument, NULL, 's' },
        { "polite", required_argument, NULL, 'P' },
        { "greedy", required_argument, NULL, 'G' },
        { "loop", required_argument, NULL, 'L' },
        { "seconds", required_argument, NULL, 'S' },
        { "every", required_argument, NULL, 'e' },
        { "step-tokens", required_argument, NULL, 'T' },
        { "shared-step", required_argument, NULL, 'd' },
        { 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;)
        if (!read_option(o, option, optarg)) return false;
    return optind == argc && o->engine.model && o->polite.prompt && o->polite.output > 1 &&
           o->every_ms;
}

int bench_fairness(int argc, char **argv)
{
    static struct bench b;
    struct options o = { .engine = { .backend = "auto",
                                     .random_weights = true,
                                     .random_seed = 1,
                                     .dev = { .numerics = NUMERICS_OFFICIAL },
                                     .most_seqs = 64,
                                     .shared_step_ns = 60 * NS_PER_MS,
                                     .queue = REQUESTS_MOST },
                         .polite = { 0, 1024, 64 },
                         .greedy = { 64, 8192, 64 },
                         .loop = { 64, 1024, 64 },
                         .every_ms = 1000,
                         .alone_s = 10,
                         .together_s = 30,
                         .weights_s = 60 };
    struct err err = { "" };
    if (!read_arguments(&o, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    uint32_t most = o.greedy.prompt + o.greedy.output, loop = o.loop.prompt + o.loop.output;
    o.engine.context = most > loop ? most + 128 : loop + 128;
    b = (struct bench){
        .options = &o, .random = 1, .first_tenant = 1, .vocab = VOCAB_FROM, .weight = { 1, 1 }
    };
    for (uint32_t t = 0; t < TENANTS; t++) {
        struct samples *list[] = { &b.seen[t].first, &b.seen[t].gap, &b.seen[t].mean };
        for (int i = 0; i < 3; i++) must(list[i]->ms = calloc(SAMPLES_MOST, sizeof *list[i]->ms));
    }
    enum status status = run(&b, &o, &err);
    for (uint32_t t = 0; t < TENANTS; t++) {
        free(b.seen[t].first.ms);
        free(b.seen[t].gap.ms);
        free(b.seen[t].mean.ms);
    }
    if (status == OK) return 0;
    fprintf(stderr, "fathom-bench: %s\n", err.text);
    return 1;
}
