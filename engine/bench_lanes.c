/* bench_lanes.c - copies beside the computing: how fast a lane is from pinned and pageable memory, and
 * how much longer a decode step takes while the lanes are kept busy.
 *
 * A copy is of PIECE bytes, about one block of Flash. Beside the steps each lane is given more pieces
 * than it can copy, or a few a step, as blocks that fill up would.
 */
#include <sys/mman.h>
#include "config/clock.h"
#include "engine/bench.h"

enum { PIECE = 450 << 10, PIECES = 1024, FEW = 4 };

struct traffic {
    struct bench *b;
    char *device, *host;        // [PIECES] each
    uint32_t next[DEV_LANES];   // piece
    uint32_t burst[DEV_LANES];  // pieces given at a time, two bursts at most; 0: the lane is quiet
    uint64_t mark[DEV_LANES], before[DEV_LANES];  // behind the latest burst, and the one before
    uint64_t bytes[DEV_LANES];                    // given so far
};

static void give(struct traffic *t, enum dev_lane lane, uint32_t pieces)
{
    const struct ops *ops = t->b->dev->ops;
    for (uint32_t i = 0; i < pieces; i++, t->next[lane]++) {
        size_t at = (size_t)(t->next[lane] % (PIECES / 2) * 2 + lane) * PIECE;
        if (lane == LANE_OUT) ops->lane_out(t->b->dev, t->host + at, t->device + at, PIECE);
        else ops->lane_in(t->b->dev, t->device + at, t->host + at, PIECE);
    }
    t->bytes[lane] += (uint64_t)pieces * PIECE;
    t->before[lane] = t->mark[lane];
    t->mark[lane] = ops->lane_mark(t->b->dev, lane);
}

static void give_more(void *context)
{
    struct traffic *t = context;
    for (uint32_t lane = 0; lane < DEV_LANES; lane++)
        if (t->burst[lane] && t->b->dev->ops->lane_done(t->b->dev, lane, t->before[lane]))
            give(t, lane, t->burst[lane]);
}

static enum status drain(struct traffic *t, struct err *err)
{
    enum status status = OK;
    for (uint32_t lane = 0; lane < DEV_LANES && status == OK; lane++)
        while (status == OK && !t->b->dev->ops->lane_done(t->b->dev, lane, t->mark[lane]))
            status = t->b->dev->ops->wait(t->b->dev, DEV_MARKS - 1, err);
    return status;
}

/* ---- alone --------------------------------------------------------------------------------- */

static enum status alone(struct traffic *t, const char *what, bool out, bool in, struct err *err)
{
    double best = 0, called = 0;
    enum status status = OK;
    for (int round = 0; round < 3 && status == OK; round++) {
        uint64_t start = now_ns();
        if (out) give(t, LANE_OUT, PIECES / 2);
        if (in) give(t, LANE_IN, PIECES / 2);
        uint64_t given = now_ns();
        status = drain(t, err);
        double seconds = (double)(now_ns() - start) / (double)NS_PER_S;
        if (best == 0 || seconds < best) {
            best = seconds;
            int copies = PIECES / 2 * (out + in);
            called = (double)(given - start) * 1e-3 / copies;
        }
    }
    if (status == OK)
        printf("%-10s %-6s %9.2f %12.2f\n", what,
               out && in ? "both"
               : out     ? "out"
                         : "in",
               (double)(out + in) * PIECES / 2 * PIECE / best * 1e-9, called);
    return status;
}

static enum status alone_all(struct traffic *t, const char *what, struct err *err)
{
    enum status status = alone(t, what, true, false, err);
    if (status == OK) status = alone(t, what, false, true, err);
    return status == OK ? alone(t, what, true, true, err) : status;
}

/* ---- beside steps -------------------------------------------------------------------------- */

static enum status beside(struct traffic *t, uint32_t seqs, uint32_t context, struct err *err)
{
    static const struct {
        const char *name;
        uint32_t out, in;
    } row[] = {
        { "quiet", 0, 0 },
        { "out, few", FEW, 0 },
        { "out", PIECES / 2, 0 },
        { "in", 0, PIECES / 2 },
        { "both", PIECES / 2, PIECES / 2 },
        { "quiet again", 0, 0 },
    };
    enum status status = OK;
    double quiet = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row && status == OK; i++) {
        double seconds = 0;
        uint64_t before = t->bytes[LANE_OUT] + t->bytes[LANE_IN], start = now_ns();
        t->burst[LANE_OUT] = row[i].out;
        t->burst[LANE_IN] = row[i].in;
        status = bench_decode(t->b, seqs, context, &seconds, err);
        if (status == OK) status = drain(t, err);
        double whole = (double)(now_ns() - start) / (double)NS_PER_S;
        uint64_t bytes = t->bytes[LANE_OUT] + t->bytes[LANE_IN] - before;
        if (i == 0) quiet = seconds;
        printf("%5u %8u  %-12s %9.3f %+8.2f %9.2f\n", seqs, context, row[i].name, seconds * 1e3,
               (seconds / quiet - 1) * 100, (double)bytes / whole * 1e-9);
    }
    return status;
}

/* ---- all ----------------------------------------------------------------------------------- */

static enum status measure(struct traffic *t, struct err *err)
{
    struct bench *b = t->b;
    const struct bench_options *o = b->options;
    size_t bytes = (size_t)PIECES * PIECE;
    printf("\nlanes: copies of %d KiB\nmemory     lane        GB/s  us to queue\n", PIECE >> 10);
    enum status status = alone_all(t, "pageable", err);
    if (status != OK) return status;
    uint64_t start = now_ns();
    bool pinned = b->dev->ops->host_pin(b->dev, t->host, bytes);
    printf("%.2f GB %s in %.0f ms\n", (double)bytes * 1e-9, pinned ? "pinned" : "cannot be pinned",
           (double)(now_ns() - start) * 1e-6);
    if (pinned) status = alone_all(t, "pinned", err);
    printf("\n seqs  context  lanes          step ms       %%      GB/s\n");
    b->beside = give_more;
    b->beside_context = t;
    for (uint32_t c = 0; c < o->contexts.count; c++)
        for (uint32_t i = 0; i < o->batches.count && status == OK; i++)
            status = beside(t, o->batches.value[i], o->contexts.value[c], err);
    b->beside = NULL;
    if (pinned) b->dev->ops->host_unpin(b->dev, t->host, bytes);
    return status;
}

enum status bench_lanes(struct bench *b, struct err *err)
{
    size_t bytes = (size_t)PIECES * PIECE;
    struct traffic t = { .b = b };
    t.host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                  -1, 0);
    if (t.host == MAP_FAILED) return fail(err, NO_MEMORY, "no memory for %zu bytes", bytes);
    t.device = b->dev->ops->alloc(b->dev, bytes);
    enum status status = t.device ? b->dev->ops->finish(b->dev, err)
                                  : fail(err, NO_MEMORY, "no memory for %zu bytes", bytes);
    if (status == OK) status = measure(&t, err);
    if (t.device) b->dev->ops->free(b->dev, t.device, bytes);
    munmap(t.host, bytes);
    return status;
}
