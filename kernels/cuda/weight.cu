/* weight.cu - tensors from the mapped file to their device layout (repack.cuh).
 *
 * A tensor goes in slices of rows through a few slots. A slot has pinned host memory and device
 * memory of the same size: threads copy the file's pages into the one, the copy engine moves it to
 * the other, and a kernel writes the tiles; while a slot is on its way the next is filled. Random
 * weights skip the host: a kernel makes what the file would hold in the slot's device memory.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/repack.cuh"
extern "C" {
#include "kernels/cpu/pool.h"
}

enum {
    SLOTS = 4,
    SLOT_BYTES = 16 << 20,
    COPY_THREADS = 4,
    COPY_PIECE = 1 << 20,
    SLAB_LEAST = 4 << 20,
    SLAB_MOST = 512 << 20,
    SLICE_ROWS = 128,  // a slice begins at a multiple: whole row tiles, whole scale blocks
};

struct slot {
    uint8_t *host, *device;
    cudaEvent_t free;  // all that was queued from this slot is done
};

struct loader {
    cudaStream_t stream;
    struct slot slot[SLOTS];
    uint32_t next;
    struct pool *pool;
    uint32_t *wrong;  // device: number of the first tensor with a value that is no number
    char **name;      // [tensors], for that message
    uint32_t tensors, room;
};

struct slab {  // weights lie in few large allocations
    struct slab *older;
    char *data;
    size_t bytes, used;
    uint32_t live;
};

/* ---- the loader ---------------------------------------------------------------------------- */

void cuda_loader_close(struct cuda_dev *cuda)
{
    struct loader *loader = cuda->loader;
    if (!loader) return;
    if (loader->stream) (void)cudaStreamSynchronize(loader->stream);
    for (uint32_t i = 0; i < SLOTS; i++) {
        (void)cudaFreeHost(loader->slot[i].host);
        (void)cudaFree(loader->slot[i].device);
        if (loader->slot[i].free) (void)cudaEventDestroy(loader->slot[i].free);
    }
    (void)cudaFree(loader->wrong);
    if (loader->stream) (void)cudaStreamDestroy(loader->stream);
    if (loader->pool) pool_close(loader->pool);
    for (uint32_t i = 0; i < loader->tensors; i++) free(loader->name[i]);
    free(loader->name);
    free(loader);
    cuda->loader = NULL;
}

static bool loader_fill(struct cuda_dev *cuda, struct loader *loader)
{
    if (pool_open(COPY_THREADS, &loader->pool) != OK) return false;
    bool made =
        cuda_worked(cuda, cudaStreamCreateWithFlags(&loader->stream, cudaStreamNonBlocking),
                    "making a stream") &&
        cuda_worked(cuda, cudaMalloc((void **)&loader->wrong, sizeof(uint32_t)), "staging memory");
    for (uint32_t i = 0; made && i < SLOTS; i++) {
        struct slot *slot = &loader->slot[i];
        made =
            cuda_worked(cuda, cudaMallocHost((void **)&slot->host, SLOT_BYTES), "pinned memory") &&
            cuda_worked(cuda, cudaMalloc((void **)&slot->device, SLOT_BYTES), "staging memory") &&
            cuda_worked(cuda, cudaEventCreateWithFlags(&slot->free, cudaEventDisableTiming),
                        "making an event");
    }
    return made &&
           cuda_worked(cuda, cudaMemsetAsync(loader->wrong, 0xff, sizeof(uint32_t), loader->stream),
                       "clearing memory");
}

static bool loader_open(struct cuda_dev *cuda)
{
    if (cuda->loader) return true;
    cuda->loader = (struct loader *)calloc(1, sizeof *cuda->loader);
    if (cuda->loader && loader_fill(cuda, cuda->loader)) return true;
    cuda_loader_close(cuda);
    return false;
}

/* Numbers a tensor, so that a kernel can tell which one was wrong. */
static bool loader_name(struct loader *loader, const char *name)
{
    if (loader->tensors == loader->room) {
        uint32_t room = loader->room ? 2 * loader->room : 256;
        char **more = (char **)realloc(loader->name, room * sizeof *more);
        if (!more) return false;
        loader->name = more;
        loader->room = room;
    }
    loader->name[loader->tensors] = strdup(name);
    return loader->name[loader->tensors] && ++loader->tensors;
}

enum status cuda_loader_finish(struct cuda_dev *cuda, struct err *err)
{
    struct loader *loader = cuda->loader;
    uint32_t wrong = UINT32_MAX;
    enum status status = OK;
    if (!loader) return OK;
    cuda_worked(cuda,
                cudaMemcpyAsync(&wrong, loader->wrong, sizeof wrong, cudaMemcpyDeviceToHost,
                                loader->stream),
                "loading weights");
    if (cuda_worked(cuda, cudaStreamSynchronize(loader->stream), "loading weights") &&
        wrong < loader->tensors)
        status = fail(err, BAD_INPUT, "%s: a value or a scale is not a finite number",
                      loader->name[wrong]);
    cuda_loader_close(cuda);
    return status;
}

/* ---- memory -------------------------------------------------------------------------------- */

static bool slab_take(struct cuda_dev *cuda, size_t bytes, struct weight *weight)
{
    struct slab *slab = cuda->slab;
    bytes = (bytes + 255) / 256 * 256;
    if (!slab || slab->bytes - slab->used < bytes) {
        size_t room = cuda->memory / 8;
        if (room < SLAB_LEAST) room = SLAB_LEAST;
        if (room > SLAB_MOST) room = SLAB_MOST;
        if (room < bytes) room = bytes;
        slab = (struct slab *)calloc(1, sizeof *slab);
        if (!slab) return false;
        slab->data = (char *)cuda_memory_take(cuda, room);
        if (!slab->data) {
            free(slab);
            return false;
        }
        slab->bytes = room;
        slab->older = cuda->slab;
        cuda->slab = slab;
    }
    weight->data = (uint8_t *)slab->data + slab->used;
    weight->slab = slab;
    slab->used += bytes;
    slab->live++;
    return true;
}

void cuda_weight_free(struct dev *dev, struct weight *weight)
{
    struct cuda_dev *cuda = cuda_of(dev);
    struct slab *slab = weight ? weight->slab : NULL;
    if (slab && --slab->live == 0) {
        struct slab **link = &cuda->slab;
        while (*link != slab) link = &(*link)->older;
        *link = slab->older;
        cuda_memory_give(cuda, slab->data, slab->bytes);
        free(slab);
    }
    free(weight);
}

size_t cuda_weight_bytes(const struct weight *weight)
{
    return weight->bytes;
}

/* ---- kernels ------------------------------------------------------------------------------- */

/* Rows first .. first + rows - 1 of a tensor, in a slot. */
struct slice {
    const uint8_t *data, *scale;  // device
    uint32_t first, rows;         // rows past the tensor's last are padding
    uint32_t present;             // rows that are there
    uint32_t row_bytes;
    uint32_t scale_rows, scale_cols, scale_across;  // scale points at the slice's first row of them
    uint32_t number, *wrong;
};

struct target {
    uint8_t *data, *scale;
    uint32_t k_tiles;
};

static __device__ void check(const struct slice &slice, bool wrong)
{
    if (wrong) atomicMin(slice.wrong, slice.number);
}

static __device__ bool wrong_e4m3(uint32_t word)
{
    return (((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u) != 0;
}

static __device__ bool wrong_bf16(uint32_t word)
{
    return (~word & 0x7f80u) == 0 || (~word & 0x7f800000u) == 0;
}

/* One thread: 16 bytes of a row. */
template <bool BF16> static __global__ void repack_wide(struct slice slice, struct target target)
{
    uint32_t chunks = target.k_tiles * 8;
    uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (uint64_t)chunks * slice.rows) return;
    uint32_t row = (uint32_t)(i / chunks), chunk = (uint32_t)(i % chunks);
    uint4 bytes = make_uint4(0, 0, 0, 0);
    if (row < slice.present && chunk * 16 < slice.row_bytes)
        bytes = *(const uint4 *)(slice.data + (size_t)row * slice.row_bytes + chunk * 16);
    const uint32_t word[4] = { bytes.x, bytes.y, bytes.z, bytes.w };
    bool wrong = false;
    for (int w = 0; w < 4; w++) wrong |= BF16 ? wrong_bf16(word[w]) : wrong_e4m3(word[w]);
    check(slice, wrong);

    uint32_t to = slice.first + row;
    size_t tile = (size_t)(to / TILE_ROWS) * target.k_tiles + chunk / 8;
    *(uint4 *)(target.data + tile * WIDE_TILE_BYTES + wide_chunk(to % TILE_ROWS, chunk % 8)) =
        bytes;
    if (BF16 || chunk % 8 || to % TILE_ROWS) return;
    uint8_t scale = 127;
    uint32_t at = row < slice.present ? row : slice.present - 1;
    if (slice.scale)
        scale = slice.scale[at / slice.scale_rows * slice.scale_across +
                            chunk / 8 * TILE_COLS / slice.scale_cols];
    check(slice, scale == 255);
    target.scale[tile] = scale;
}

/* One thread: a row's 128 columns, 64 bytes. */
static __global__ void repack_e2m1(struct slice slice, struct target target)
{
    uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (uint64_t)target.k_tiles * slice.rows) return;
    uint32_t row = (uint32_t)(i / target.k_tiles), kt = (uint32_t)(i % target.k_tiles);
    uint32_t to = slice.first + row, r = to % TILE_ROWS;
    uint8_t *tile =
        target.data + ((size_t)(to / TILE_ROWS) * target.k_tiles + kt) * E2M1_TILE_BYTES;
    bool there = row < slice.present;
    const uint8_t *from = slice.data + (size_t)row * slice.row_bytes + kt * (TILE_COLS / 2);
    uint8_t scale[4] = { 127, 127, 127, 127 };
    uint8_t base = 0;

    for (uint32_t g = 0; there && g < 4; g++) {
        scale[g] = slice.scale[(size_t)(row / slice.scale_rows) * slice.scale_across +
                               (kt * TILE_COLS + g * 32) / slice.scale_cols];
        check(slice, scale[g] == 255);
    }
    for (uint32_t g = 0; g < 4; g++) base = scale[g] > base ? scale[g] : base;
    for (uint32_t g = 0; g < 4; g++) {
        uint4 codes = make_uint4(0, 0, 0, 0);
        if (there && kt * TILE_COLS + g * 32 < slice.row_bytes * 2)
            codes = *(const uint4 *)(from + g * 16);
        const uint32_t word[4] = { codes.x, codes.y, codes.z, codes.w };
        uint32_t down = base - scale[g] > E2M1_TOP - E2M1_BOTTOM
                            ? base - scale[g] - (E2M1_TOP - E2M1_BOTTOM)
                            : 0;
        for (uint32_t q = 0; q < 4; q++) {
            uint32_t low = word[q / 2] >> (q % 2 * 16) & 0xffff;
            uint32_t high = word[2 + q / 2] >> (q % 2 * 16) & 0xffff;
            if (down) low = e2m1_lower(low, down), high = e2m1_lower(high, down);
            *(uint32_t *)(tile + e2m1_word(r, g, q)) = e2m1_pack(low, high);
        }
        tile[E2M1_EXPONENTS + r * 4 + g] = (uint8_t)e2m1_exponent(scale[g], base);
    }
    tile[E2M1_BASES + r] = base;
}

static __global__ void check_f32(struct slice slice, const float *data, uint64_t count)
{
    uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) check(slice, !isfinite(data[i]));
}

static __global__ void bf16_to_float(const uint16_t *from, float *to, uint64_t count)
{
    uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = bf16_to_f32(from[i]);
}

/* What random_fill.h says bytes first .. of a tensor are; one thread makes 8 of them. */
static __global__ void fill_random(struct random_fill fill, uint8_t *out, uint64_t first,
                                   uint64_t bytes)
{
    uint64_t i = ((uint64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8, at = first + i;
    if (i >= bytes) return;
    uint64_t word = 0;
    if (fill.kind == RANDOM_SCALES)
        for (int b = 0; b < 8; b++) word |= (uint64_t)random_scale(&fill, at + b) << 8 * b;
    else if (fill.kind == RANDOM_F32)
        for (int b = 0; b < 2; b++)
            word |= (uint64_t)f32_bits(random_real(&fill, at / 4 + b)) << 32 * b;
    else if (fill.kind == RANDOM_BF16)
        for (int b = 0; b < 4; b++)
            word |= (uint64_t)f32_to_bf16(random_real(&fill, at / 2 + b)) << 16 * b;
    else word = random_codes(&fill, at);
    if (i + 8 <= bytes) *(uint64_t *)(out + i) = word;
    else
        for (int b = 0; i + b < bytes; b++) out[i + b] = (uint8_t)(word >> 8 * b);
}

/* ---- one tensor ---------------------------------------------------------------------------- */

static uint32_t row_bytes_of(const struct weight_source *source)
{
    return source->type == DT_I8 ? (source->cols + 1) / 2
                                 : source->cols * (uint32_t)dtype_size(source->type);
}

static enum status plan_linear(const struct weight_source *source, struct weight *weight,
                               struct err *err)
{
    uint32_t cols = source->type == DT_BF16 ? TILE_COLS / 2 : TILE_COLS;
    if (source->cols % 32)
        return fail(err, BAD_INPUT, "%s: found %u columns, wanted a multiple of 32", source->name,
                    source->cols);
    if (source->type == DT_F32) {
        weight->bytes = (size_t)source->rows * source->cols * sizeof(float);
        return OK;
    }
    weight->row_tiles = (source->rows + TILE_ROWS - 1) / TILE_ROWS;
    weight->k_tiles = (source->cols + cols - 1) / cols;
    size_t tiles = (size_t)weight->row_tiles * weight->k_tiles;
    switch (source->type) {
    case DT_BF16:
        weight->bytes = tiles * WIDE_TILE_BYTES;
        return OK;
    case DT_F8_E4M3:
        if (source->scale_cols &&
            (source->scale_rows % TILE_ROWS || source->scale_cols % TILE_COLS))
            break;
        weight->bytes = tiles * (WIDE_TILE_BYTES + 1);
        return OK;
    case DT_I8:
        if (source->scale_cols == 0 || source->scale_cols % 32 || !source->scale_rows) break;
        weight->bytes = tiles * E2M1_TILE_BYTES;
        return OK;
    default:
        return fail(err, BAD_INPUT, "%s: found type %s, a product takes F32, BF16, F8_E4M3 or I8",
                    source->name, dtype_name(source->type));
    }
    return fail(err, BAD_INPUT, "%s: found scales of %u x %u elements, wanted 128 x 128 or 1 x 32",
                source->name, source->scale_rows, source->scale_cols);
}

static enum status plan(const struct weight_source *source, struct weight *weight, struct err *err)
{
    size_t count = (size_t)source->rows * source->cols;
    switch (source->use) {
    case WEIGHT_LINEAR:
        return plan_linear(source, weight, err);
    case WEIGHT_VECTOR:
        if (source->type != DT_F32 && source->type != DT_BF16)
            return fail(err, BAD_INPUT, "%s: found type %s, wanted F32 or BF16", source->name,
                        dtype_name(source->type));
        weight->type = DT_F32;
        weight->bytes = count * sizeof(float);
        return OK;
    default:
        weight->bytes = count * dtype_size(source->type);
        return OK;
    }
}

struct piece_copy {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
};

static void copy_piece(void *context, uint32_t item, uint32_t thread)
{
    const struct piece_copy *copy = (const struct piece_copy *)context;
    size_t at = (size_t)item * COPY_PIECE, left = copy->bytes - at;
    (void)thread;
    memcpy(copy->to + at, copy->from + at, left < COPY_PIECE ? left : (size_t)COPY_PIECE);
}

/* Bytes of the file, or random ones in their place, to `at` of a slot's device memory. */
static void bring(struct cuda_dev *cuda, struct slot *slot, size_t at, size_t bytes,
                  const uint8_t *data, const struct random_fill *fill, uint64_t first)
{
    struct loader *loader = cuda->loader;
    if (!bytes) return;
    if (!data) {
        fill_random<<<(unsigned)((bytes + 2047) / 2048), 256, 0, loader->stream>>>(
            *fill, slot->device + at, first, bytes);
        return;
    }
    struct piece_copy copy = { slot->host + at, data + first, bytes };
    uint32_t pieces = (uint32_t)((bytes + COPY_PIECE - 1) / COPY_PIECE);
    if (pieces == 1) copy_piece(&copy, 0, 0);
    else pool_run(loader->pool, pieces, copy_piece, &copy);
    cuda_worked(cuda,
                cudaMemcpyAsync(slot->device + at, slot->host + at, bytes, cudaMemcpyHostToDevice,
                                loader->stream),
                "loading weights");
}

/* From a slot's device memory to the weight. */
static void place(struct cuda_dev *cuda, const struct weight_source *source,
                  const struct weight *weight, const struct slice *slice)
{
    cudaStream_t stream = cuda->loader->stream;
    size_t tiles = (size_t)weight->row_tiles * weight->k_tiles;
    struct target target = { weight->data, weight->data + tiles * WIDE_TILE_BYTES,
                             weight->k_tiles };
    uint64_t count = (uint64_t)slice->present * source->cols,
             at = (uint64_t)slice->first * source->cols;
    uint64_t threads = count;

    if (source->use == WEIGHT_LINEAR && source->type != DT_F32) {
        threads = (uint64_t)slice->rows * weight->k_tiles * (source->type == DT_I8 ? 1 : 8);
        unsigned grid = (unsigned)((threads + 255) / 256);
        if (source->type == DT_I8) repack_e2m1<<<grid, 256, 0, stream>>>(*slice, target);
        else if (source->type == DT_BF16)
            repack_wide<true><<<grid, 256, 0, stream>>>(*slice, target);
        else repack_wide<false><<<grid, 256, 0, stream>>>(*slice, target);
    } else if (source->use == WEIGHT_TABLE) {
        cuda_worked(cuda,
                    cudaMemcpyAsync(weight->data + (size_t)slice->first * slice->row_bytes,
                                    slice->data, (size_t)slice->present * slice->row_bytes,
                                    cudaMemcpyDeviceToDevice, stream),
                    "loading weights");
    } else {
        float *to = (float *)weight->data + at;
        unsigned grid = (unsigned)((threads + 255) / 256);
        if (source->type == DT_BF16)
            bf16_to_float<<<grid, 256, 0, stream>>>((const uint16_t *)slice->data, to, count);
        else
            cuda_worked(cuda,
                        cudaMemcpyAsync(to, slice->data, count * sizeof(float),
                                        cudaMemcpyDeviceToDevice, stream),
                        "loading weights");
        check_f32<<<grid, 256, 0, stream>>>(*slice, to, count);
    }
    cuda_worked(cuda, cudaGetLastError(), "repacking weights");
}

/* Rows first .. of a tensor through the next slot. */
static void load_slice(struct cuda_dev *cuda, const struct weight_source *source,
                       const struct weight *weight, uint32_t first, uint32_t rows)
{
    struct loader *loader = cuda->loader;
    struct slot *slot = &loader->slot[loader->next++ % SLOTS];
    struct slice slice = { .data = slot->device,
                           .first = first,
                           .rows = rows,
                           .present = source->rows - first < rows ? source->rows - first : rows,
                           .row_bytes = row_bytes_of(source),
                           .number = loader->tensors - 1,
                           .wrong = loader->wrong };
    size_t bytes = (size_t)slice.present * slice.row_bytes, room = (bytes + 255) / 256 * 256;

    cuda_worked(cuda, cudaEventSynchronize(slot->free), "loading weights");
    bring(cuda, slot, 0, bytes, (const uint8_t *)source->data, &source->fill,
          (uint64_t)first * slice.row_bytes);
    if (source->scale_cols) {
        slice.scale_rows = source->scale_rows;
        slice.scale_cols = source->scale_cols;
        slice.scale_across = (source->cols + source->scale_cols - 1) / source->scale_cols;
        uint32_t scale_rows = (slice.present + source->scale_rows - 1) / source->scale_rows;
        slice.scale = slot->device + room;
        must(room + (size_t)scale_rows * slice.scale_across <= SLOT_BYTES);
        bring(cuda, slot, room, (size_t)scale_rows * slice.scale_across, source->scale,
              &source->scale_fill, (uint64_t)(first / source->scale_rows) * slice.scale_across);
    }
    place(cuda, source, weight, &slice);
    cuda_worked(cuda, cudaEventRecord(slot->free, loader->stream), "loading weights");
}

static void load_slices(struct cuda_dev *cuda, const struct weight_source *source,
                        const struct weight *weight)
{
    size_t row_bytes = row_bytes_of(source) + source->cols / 32 + 1;  // with its scales
    uint32_t most = (uint32_t)((SLOT_BYTES - 256) / (row_bytes * SLICE_ROWS)) * SLICE_ROWS;
    uint32_t rows = weight->row_tiles ? weight->row_tiles * TILE_ROWS : source->rows;
    must(most > 0);
    for (uint32_t first = 0; first < rows; first += most)
        load_slice(cuda, source, weight, first, rows - first < most ? rows - first : most);
}

enum status cuda_weight_load(struct dev *dev, const struct weight_source *source,
                             struct weight **out, struct err *err)
{
    struct cuda_dev *cuda = cuda_of(dev);
    struct weight *weight = (struct weight *)calloc(1, sizeof *weight);
    if (!weight) return fail(err, NO_MEMORY, "%s: no memory is left", source->name);
    weight->use = source->use;
    weight->type = source->type;
    weight->rows = source->rows;
    weight->cols = source->cols;

    enum status status = plan(source, weight, err);
    if (status == OK && (!loader_open(cuda) || !loader_name(cuda->loader, source->name)))
        status = fail(err, NO_MEMORY, "%s: no memory is left to load it", source->name);
    if (status == OK && !slab_take(cuda, weight->bytes, weight))
        status = fail(err, NO_MEMORY,
                      "%s: GPU %d has no memory left: its %zu bytes come after %zu of other things",
                      source->name, cuda->index, weight->bytes, cuda->memory);
    if (status == OK) {
        if (weight->type == DT_F8_E4M3 && weight->use == WEIGHT_LINEAR)
            weight->scale =
                weight->data + (size_t)weight->row_tiles * weight->k_tiles * WIDE_TILE_BYTES;
        load_slices(cuda, source, weight);
        if (cuda->failed != OK) {
            status = cuda->failed;
            *err = cuda->failure;
        }
    }
    if (status != OK) {
        cuda_weight_free(dev, weight);
        return status;
    }
    *out = weight;
    return OK;
}
