/* safetensors_header_fuzz.c - any bytes as a file: an accepted one has tensors inside it that cover
 * its data. */
#include "engine/safetensors_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct st_header header;
    struct err err;
    uint64_t sum = 0;

    /* The first bytes choose a header's length that fits, so that the fuzzer gets past it. */
    uint8_t *file = malloc(size + 8);
    if (!file) return 0;
    uint64_t length = size;
    if (size && data[0] < 128) length = size > data[0] ? size - data[0] : 0;
    memcpy(file, &length, 8);
    memcpy(file + 8, data, size);

    arena_init(&arena, 1 << 20);
    if (st_header_read("FUZZ", (struct slice){ (char *)file, size + 8 }, &arena, &header, &err) ==
        OK) {
        for (uint32_t i = 0; i < header.count; i++) {
            const struct st_tensor *tensor = &header.tensor[i];
            must(tensor->begin >= 8 + length && tensor->bytes <= size + 8 - tensor->begin);
            must(tensor->dims <= ST_MOST_DIMS && tensor->name.size <= ST_MOST_NAME);
            sum += tensor->bytes;
        }
        must(sum == size - length);
        free(header.tensor);
    } else {
        must(err.text[0] != 0);
    }
    arena_release(&arena);
    free(file);
    return 0;
}
