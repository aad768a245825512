/* gate.c - errors of whole tensors and of tokens. */
#include "engine/gate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDE = 256 };

static double floor_of(const struct gate *gate, const char *what)
{
    for (uint32_t i = 0; i < gate->floors; i++)
        if (strcmp(gate->floor[i].what, what) == 0) return gate->floor[i].error;
    return 0;
}

void gate_say(struct gate *gate, const char *what, double error, double limit)
{
    if (gate->measures) {
        must(gate->floors < GATE_FLOORS);
        struct gate_floor *floor = &gate->floor[gate->floors++];
        snprintf(floor->what, sizeof floor->what, "%s", what);
        floor->error = error;
        return;
    }
    double floor = floor_of(gate, what), most = limit + FLOOR_SLACK * floor;
    bool ok = error < most;
    fprintf(gate->out, "%-44s %10.3g  limit %.3g  %s", what, error, most, ok ? "ok" : "FAILED");
    if (floor > 0) fprintf(gate->out, "  (%.3g over a floor of %.3g)", limit, floor);
    fputc('\n', gate->out);
    gate->held = gate->held && ok;
}

double gate_relative(const float *got, const float *want, uint64_t count)
{
    double difference = 0, norm = 0;
    for (uint64_t i = 0; i < count; i++) {
        double d = (double)got[i] - (double)want[i];
        difference += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    return isfinite(difference) ? sqrt(difference / (norm > 0 ? norm : 1)) : INFINITY;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double gate_far_error(const struct shape *shape)
{
    return shape->hidden < WIDE ? FAR_ERROR_NARROW : FAR_ERROR;
}

void gate_tokens(struct gate *gate, const char *what, const float *got, const float *want,
                 uint32_t tokens, uint64_t width, double far_error)
{
    double *error = malloc(tokens * sizeof *error);
    char line[64];
    uint32_t far = 0;
    must(error);
    for (uint32_t t = 0; t < tokens; t++)
        error[t] = gate_relative(got + t * width, want + t * width, width);
    qsort(error, tokens, sizeof *error, ascending);
    snprintf(line, sizeof line, "%s: median token", what);
    double floor = gate->measures ? error[tokens / 2] : floor_of(gate, line);
    gate_say(gate, line, error[tokens / 2], MEDIAN_LIMIT);
    far_error += FAR_FLOORS * floor;
    for (uint32_t t = 0; t < tokens; t++) far += error[t] > far_error;
    snprintf(line, sizeof line, "%s: share above %.3g", what, far_error);
    gate_say(gate, line, (double)far / tokens, FAR_SHARE_LIMIT);
    free(error);
}
