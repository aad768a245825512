/* checkpoint_fuzz.c - any bytes as config.json or as the index of a directory: read or refused with a
 * sentence, and nothing is left open. */
#include <unistd.h>
#include "engine/safetensors.h"
#include "engine/shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *work_dir(void)
{
    static char dir[] = "/tmp/fathom-fuzz-XXXXXX";
    static bool made;

    if (!made) must(mkdtemp(dir));
    made = true;
    return dir;
}

static void put_file(const char *name, const void *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", work_dir(), name);
    FILE *file = fopen(path, "wb");
    must(file);
    must(fwrite(data, 1, size, file) == size);
    must(fclose(file) == 0);
}

static void try_config(void)
{
    static struct shape shape;
    struct err err = { "" };

    if (shape_read(work_dir(), &shape, &err) != OK) {
        must(err.text[0]);
        return;
    }
    float frequency[32];
    must(shape.layers + shape.drafter_blocks <= SHAPE_MOST_LAYERS && shape.rope_dim == 64);
    for (uint32_t ratio = 0; ratio <= 4; ratio += 4) {
        shape_rope_frequencies(&shape, ratio, frequency);
        for (int i = 0; i < 32; i++) must(frequency[i] >= 0 && frequency[i] <= 1);
    }
}

static void try_index(void)
{
    static const char tensors[] = "{\"a\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    struct st_set set;
    struct err err = { "" };
    char file[8 + sizeof tensors] = { sizeof tensors - 1 };

    memcpy(file + 8, tensors, sizeof tensors - 1);
    put_file("a.safetensors", file, sizeof file);
    if (st_open_dir(work_dir(), &set, &err) != OK) {
        must(err.text[0]);
        return;
    }
    must(set.files == 1 && set.tensors == 1);
    st_close(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] & 1) {
        put_file("config.json", data + 1, size - 1);
        try_config();
    } else {
        put_file("model.safetensors.index.json", data + 1, size - 1);
        try_index();
    }
    return 0;
}
