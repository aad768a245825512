/* verb_plan.c - `fathomd plan --model DIR [--gpus N] [--context N] [--streams N]`: checks every tensor
 * of a checkpoint from the headers alone, and prints what the model takes in memory.
 *
 * No GPU and no weight is touched. The exit code is 1 when the checkpoint is refused; its sentence
 * goes to standard error.
 */
#include <errno.h>
#include "config/clock.h"
#include "engine/plan.h"
#include "server/verbs.h"

struct plan_arguments {
    const char *model;
    uint32_t gpus, context, streams;  // context 0: the model's longest
};

static const char usage[] =
    "usage: fathomd plan --model DIR [--gpus N] [--context N] [--streams N]\n";

/* A number from 1 to most. */
static bool read_count(const char *text, uint32_t most, uint32_t *out)
{
    char *end;

    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 1 || value > (long)most) return false;
    *out = (uint32_t)value;
    return true;
}

static bool read_arguments(struct plan_arguments *a, int argc, char **argv)
{
    *a = (struct plan_arguments){ .gpus = 1, .streams = 1 };
    for (int i = 0; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--model") == 0) {
            a->model = value;
        } else {
            uint32_t *number = strcmp(name, "--gpus") == 0      ? &a->gpus
                               : strcmp(name, "--context") == 0 ? &a->context
                               : strcmp(name, "--streams") == 0 ? &a->streams
                                                                : NULL;
            uint32_t most = number == &a->gpus ? PLAN_MOST_GPUS : 1u << 30;
            if (!number || !read_count(value, most, number)) {
                fprintf(stderr, "fathomd plan: %s %s: wanted a number from 1 to %u\n", name, value,
                        most);
                return false;
            }
        }
    }
    return argc % 2 == 0 && a->model;
}

/* Everything that can be wrong with the checkpoint is found here. */
static enum status check(const char *dir, struct shape *shape, struct tensor_list *list,
                         struct err *err)
{
    struct st_set set;
    const struct st_tensor **found = NULL;
    struct generation generation;
    char note[512] = "";
    uint64_t from = now_ns();

    enum status status = shape_read(dir, shape, err);
    if (status == OK) status = generation_read(dir, &generation, err);
    if (status != OK) return status;
    status = st_open_dir(dir, &set, err);
    if (status != OK) return status;
    tensors_settle(shape, &set);
    status = tensor_list_init(list, shape, err);
    if (status == OK) {
        found = calloc(list->count, sizeof *found);
        status = found ? tensors_check(list, shape, &set, found, note, err)
                       : fail(err, NO_MEMORY, "no memory to check %u tensors", list->count);
        if (status != OK) tensor_list_release(list);
    }
    if (status == OK) {
        printf("model: %s\n", dir);
        printf("checked: %u tensors in %u files, %.2f s\n", set.tensors, set.files,
               (double)(now_ns() - from) * 1e-9);
        if (note[0]) printf("note: %s\n", note);
    }
    free(found);
    st_close(&set);
    return status;
}

static enum status print_plan(const struct plan_arguments *a, const struct shape *shape,
                              const struct tensor_list *list, struct err *err)
{
    struct plan plan;
    struct buf out;
    struct plan_options options = {
        .shape = shape,
        .list = list,
        .gpus = a->gpus,
        .streams = a->streams,
        .context = a->context ? a->context : shape->positions,
    };

    if (options.context > shape->positions)
        return fail(err, BAD_INPUT, "--context: found %u, wanted at most the model's %u",
                    options.context, shape->positions);
    enum status status = plan_init(&plan, &options, err);
    if (status != OK) return status;
    buf_init(&out, 0);
    plan_print(&plan, &out);
    status = buf_status(&out);
    if (status == OK) fwrite(out.data, 1, out.size, stdout);
    else status = fail(err, status, "no memory for the table");
    buf_release(&out);
    plan_release(&plan);
    return status;
}

int verb_plan(int argc, char **argv)
{
    struct plan_arguments arguments;
    static struct shape shape;
    struct tensor_list list;
    struct err err = { "" };

    if (!read_arguments(&arguments, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    enum status status = check(arguments.model, &shape, &list, &err);
    if (status == OK) {
        status = print_plan(&arguments, &shape, &list, &err);
        tensor_list_release(&list);
    }
    if (status != OK) fprintf(stderr, "fathomd plan: %s\n", err.text);
    return status == OK && fflush(stdout) == 0 ? 0 : 1;
}
