/* weight.c - what the CPU makes of a tensor.
 *
 * The right side of a product is packed at load into groups of 16 rows, one row in each 32-bit lane
 * of a vector, and 32-bit words along the row; nothing grows, FP8 stays 8 bits and FP4 stays 4:
 *
 *     [band of 8 row groups][word of the row][row group][lane]      one word holds
 *         F32   1 column                     the value
 *         BF16  2 columns                    the even one in the low half
 *         E4M3  4 columns, lowest byte first each byte S EEEE MMM turned into S eMMM EEE, where e is
 *                                            the lowest exponent bit: see gemm_avx512.c
 *         E2M1  8 columns, lowest nibble first
 *
 * Row groups take turns by word, so that 8 of them, as many chains of additions as hide the latency of
 * one, are read front to back; the last band has as many as are left. Rows only there to fill a group,
 * and columns to fill 16, are zeros. For E4M3 `rare` marks the words of each group and block in which
 * some row has a subnormal value, so that the others go a faster way.
 */
#include "kernels/cpu/cpu.h"

#include "kernels/cpu/gemm.h"

struct packing {
    const struct weight_source *source;
    struct weight *weight;
    size_t row_bytes;        // in the source
    _Atomic uint32_t wrong;  // a value that is not a number was met
};

uint32_t weight_word_columns(enum dtype type)
{
    return type == DT_I8 ? 8 : 4 / (uint32_t)dtype_size(type);
}

/* True where one of the word's values is infinite or not a number. */
static bool word_is_wrong(enum dtype type, uint32_t word)
{
    switch (type) {
    case DT_F32:
        return (~word & 0x7f800000u) == 0;
    case DT_BF16:
        return (~word & 0x7f80u) == 0 || (~word & 0x7f800000u) == 0;
    case DT_F8_E4M3:
        return (((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u) != 0;
    default:
        return false;
    }
}

static uint32_t word_recoded(enum dtype type, uint32_t word)
{
    if (type != DT_F8_E4M3) return word;
    return (word & 0x80808080u) | (word & 0x0f0f0f0fu) << 3 | (word >> 4 & 0x07070707u);
}

/* Some byte's exponent bits are 0 and its mantissa is not: sums that carry into each byte's top bit
 * tell, for all four at once. */
static bool word_has_subnormal(uint32_t word)
{
    uint32_t normal = (word & 0x78787878u) + 0x7f7f7f7fu;
    uint32_t mantissa = (word & 0x07070707u) + 0x7f7f7f7fu;
    return (~normal & mantissa & 0x80808080u) != 0;
}

static void mark_rare(const struct weight *weight, uint32_t group, uint32_t word)
{
    uint32_t words_a_block = weight->block / 4;
    weight->rare[(size_t)group * weight->blocks + word / words_a_block] |= 1u
                                                                           << word % words_a_block;
}

enum { TILE_WORDS = 16 };  // 16 rows of a cache line each: read and written whole, inside L1

/* Packs one group of rows, the type known to the compiler. Padding is zero from the allocation. */
static inline __attribute__((always_inline)) uint32_t pack_rows(const struct packing *packing,
                                                                uint32_t group, enum dtype type)
{
    const struct weight *weight = packing->weight;
    uint32_t *out = (uint32_t *)weight->data + weight_offset(weight, group);
    size_t step = weight_step(weight, group);
    uint32_t rows = weight->rows - group * LANES, wrong = 0;
    const char *in = packing->source->data;

    if (rows > LANES) rows = LANES;
    in += (size_t)group * LANES * packing->row_bytes;
    for (uint32_t first = 0; first < weight->words; first += TILE_WORDS) {
        uint32_t count = weight->words - first;
        size_t bytes = packing->row_bytes - (size_t)first * 4;
        if (count > TILE_WORDS) count = TILE_WORDS;
        if (bytes > sizeof(uint32_t) * TILE_WORDS) bytes = sizeof(uint32_t) * TILE_WORDS;
        for (uint32_t lane = 0; lane < rows; lane++) {
            uint32_t tile[TILE_WORDS] = { 0 };
            memcpy(tile, in + lane * packing->row_bytes + (size_t)first * 4, bytes);
            for (uint32_t i = 0; i < count; i++) {
                wrong |= word_is_wrong(type, tile[i]);
                out[(first + i) * step + lane] = word_recoded(type, tile[i]);
                if (type == DT_F8_E4M3 && weight->rare && word_has_subnormal(tile[i]))
                    mark_rare(weight, group, first + i);
            }
        }
    }
    return wrong;
}

/* An item of the pool. */
static void pack_group(void *context, uint32_t group, uint32_t thread)
{
    struct packing *packing = context;
    uint32_t wrong = 0;
    (void)thread;

    switch (packing->weight->type) {
    case DT_F32:
        wrong = pack_rows(packing, group, DT_F32);
        break;
    case DT_BF16:
        wrong = pack_rows(packing, group, DT_BF16);
        break;
    case DT_F8_E4M3:
        wrong = pack_rows(packing, group, DT_F8_E4M3);
        break;
    default:
        wrong = pack_rows(packing, group, DT_I8);
    }
    if (wrong) packing->wrong = 1;
}

/* Spreads the source's scales, one for scale_rows x scale_cols elements, to [group][block][lane]. */
static bool pack_scales(const struct weight_source *source, struct weight *weight)
{
    uint32_t across = (source->cols + source->scale_cols - 1) / source->scale_cols;
    uint8_t *out = weight->scale;
    bool right = true;

    for (uint32_t group = 0; group < weight->row_groups; group++)
        for (uint32_t block = 0; block < weight->blocks; block++)
            for (uint32_t lane = 0; lane < weight->scale_lanes; lane++) {
                uint32_t row = group * LANES + lane;
                if (row >= source->rows) row = source->rows - 1;
                uint8_t scale = source->scale[(size_t)(row / source->scale_rows) * across + block];
                right = right && scale != 255;
                *out++ = scale;
            }
    return right;
}

/* Blocks follow the scales; without scales they are of BLOCK_COLUMNS, so every chain of additions
 * has one form. */
static enum status plan_linear(const struct weight_source *source, struct weight *weight,
                               struct err *err)
{
    uint32_t per_word;

    if (source->type != DT_F32 && source->type != DT_BF16 && source->type != DT_F8_E4M3 &&
        source->type != DT_I8)
        return fail(err, BAD_INPUT, "%s: found type %s, a product takes F32, BF16, F8_E4M3 or I8",
                    source->name, dtype_name(source->type));
    per_word = weight_word_columns(source->type);
    weight->row_groups = (source->rows + LANES - 1) / LANES;
    weight->words = (source->cols + 15) / 16 * 16 / per_word;
    weight->block = BLOCK_COLUMNS;
    if (source->scale) {
        uint32_t rows = source->scale_rows, cols = source->scale_cols;
        if (cols == 0 || BLOCK_COLUMNS % cols != 0 || cols % 16 != 0 || rows == 0 ||
            (rows % LANES != 0 && rows != 1))
            return fail(err, BAD_INPUT,
                        "%s: found scales of %u x %u elements, wanted 128 x 128 "
                        "or 1 x 32 or the like",
                        source->name, rows, cols);
        weight->block = cols;
        weight->scale_lanes = rows == 1 ? LANES : 1;
    } else if (source->type == DT_I8) {
        return fail(err, BAD_INPUT, "%s: I8 needs scales, found none", source->name);
    }
    weight->blocks = (source->cols + weight->block - 1) / weight->block;
    return OK;
}

static size_t source_row_bytes(const struct weight_source *source)
{
    return source->type == DT_I8 ? (source->cols + 1) / 2 : source->cols * dtype_size(source->type);
}

static enum status load_linear(struct cpu_dev *cpu, const struct weight_source *source,
                               struct weight *weight, struct err *err)
{
    enum status status = plan_linear(source, weight, err);
    if (status != OK) return status;

    size_t scales =
        weight->scale_lanes ? (size_t)weight->row_groups * weight->blocks * weight->scale_lanes : 0;
    size_t data = (size_t)weight->row_groups * weight->words * LANES * 4;
    size_t rare = weight->type == DT_F8_E4M3 ? (size_t)weight->row_groups * weight->blocks * 4 : 0;
    weight->bytes = data + rare + scales;
    weight->data = cpu_weight_take(cpu, weight->bytes, &weight->slab);
    if (!weight->data) return fail(err, NO_MEMORY, "%s: no memory is left", source->name);
    if (rare) {
        weight->rare = (uint32_t *)weight->data + data / 4;
        memset(weight->rare, 0, rare);
    }
    if (scales) {
        weight->scale = (uint8_t *)weight->data + data + rare;
        if (!pack_scales(source, weight))
            return fail(err, BAD_INPUT, "%s: a scale is NaN (e8m0 code 255)", source->name);
    }
    struct packing packing = { source, weight, source_row_bytes(source), 0 };
    pool_run(cpu->pool, weight->row_groups, pack_group, &packing);
    if (packing.wrong)
        return fail(err, BAD_INPUT, "%s: a value is not a finite number", source->name);
    return OK;
}

static enum status load_vector(struct cpu_dev *cpu, const struct weight_source *source,
                               struct weight *weight, struct err *err)
{
    size_t count = (size_t)source->rows * source->cols;

    if (source->type != DT_F32 && source->type != DT_BF16)
        return fail(err, BAD_INPUT, "%s: found type %s, wanted F32 or BF16", source->name,
                    dtype_name(source->type));
    weight->type = DT_F32;
    weight->bytes = count * sizeof(float);
    weight->data = cpu_weight_take(cpu, weight->bytes, &weight->slab);
    if (!weight->data) return fail(err, NO_MEMORY, "%s: no memory is left", source->name);

    float *out = weight->data;
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        if (source->type == DT_F32) memcpy(&out[i], (const char *)source->data + i * 4, 4);
        else {
            memcpy(&half, (const char *)source->data + i * 2, 2);
            out[i] = bf16_to_f32(half);
        }
        if (word_is_wrong(DT_F32, f32_bits(out[i])))
            return fail(err, BAD_INPUT, "%s: a value is not a finite number", source->name);
    }
    return OK;
}

enum status cpu_weight_load(struct dev *dev, const struct weight_source *source,
                            struct weight **out, struct err *err)
{
    enum status status = OK;
    struct weight *weight = calloc(1, sizeof *weight);

    if (!weight) return fail(err, NO_MEMORY, "%s: no memory is left", source->name);
    weight->use = source->use;
    weight->type = source->type;
    weight->rows = source->rows;
    weight->cols = source->cols;
    if (source->use == WEIGHT_LINEAR) {
        status = load_linear(cpu_of(dev), source, weight, err);
    } else if (source->use == WEIGHT_VECTOR) {
        status = load_vector(cpu_of(dev), source, weight, err);
    } else {
        weight->mapped = true;
        weight->data = (void *)(uintptr_t)source->data;  // only read
    }
    if (status != OK) {
        cpu_weight_free(dev, weight);
        return status;
    }
    *out = weight;
    return OK;
}

void cpu_weight_free(struct dev *dev, struct weight *weight)
{
    if (!weight) return;
    if (weight->slab) cpu_weight_give(cpu_of(dev), weight->slab);
    free(weight);
}

size_t cpu_weight_bytes(const struct weight *weight)
{
    return weight->bytes;
}
