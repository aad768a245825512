/* linear_plan_test.c - every tile of every weight has one CTA, whatever the shapes. Needs no GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/cuda/linear_plan.h"

static uint64_t seed = 1;

static uint32_t draw(uint32_t most)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % most;
}

static void add_part(struct products *of, uint32_t rows, uint32_t cols, enum linear_kind kind)
{
    struct product *part = &of->part[of->count++];
    *part = (struct product){
        .kind = kind, .rows = rows, .row_tiles = (rows + 63) / 64, .k_tiles = cols / tile_cols(kind)
    };
    part->chunk = chunk_cols(rows * of->groups, kind == LINEAR_BF16) / tile_cols(kind);
    if (part->chunk > part->k_tiles) part->chunk = part->k_tiles;
    part->chunks = (part->k_tiles + part->chunk - 1) / part->chunk;
}

/* How often each tile is done; tiles lie [part][row tile][k tile]. */
struct count {
    uint8_t *of[LINEAR_PARTS];
};

static void do_unit(const struct products *of, const struct stream_unit *unit, struct count *count)
{
    const struct product *part = &of->part[unit->part];
    assert_true(unit->row_tile < part->row_tiles * of->groups);
    if (unit->tiles == 0) return;
    uint32_t first = unit->chunk * part->chunk;
    assert_true(first + unit->tiles <= part->k_tiles);
    assert_true(unit->tiles == part->chunk || first + unit->tiles == part->k_tiles);
    assert_int_equal(unit->column, unit->row_tile / part->row_tiles * of->group_cols +
                                       first * tile_cols(part->kind));
    for (uint32_t k = 0; k < unit->tiles; k++)
        count->of[unit->part][(size_t)unit->row_tile * part->k_tiles + first + k]++;
}

static void check(const struct products *of, uint32_t ctas)
{
    struct stream_plan plan = plan_units(of);
    uint32_t most = plan_most_columns(of, &plan, ctas), next = 0;
    struct count count;

    for (uint32_t i = 0; i < of->count; i++) {
        size_t tiles = (size_t)of->part[i].row_tiles * of->groups * of->part[i].k_tiles;
        count.of[i] = calloc(tiles, 1);
        assert_non_null(count.of[i]);
    }
    for (uint32_t cta = 0; cta < ctas; cta++) {
        uint32_t from = units_before(of, &plan, plan_cut(&plan, cta, ctas));
        uint32_t to = units_before(of, &plan, plan_cut(&plan, cta + 1, ctas));
        assert_int_equal(from, next);
        next = to;
        assert_true(to - from <= MAX_UNITS);
        for (uint32_t u = from; u < to; u++) {
            struct stream_unit unit = find_unit(of, &plan, u);
            uint32_t first = window_column(of, &plan, from / plan.units);
            do_unit(of, &unit, &count);
            assert_true(unit.column >= first);
            if (unit.tiles)
                assert_true(unit.column + unit.tiles * tile_cols(of->part[unit.part].kind) <=
                            first + most);
        }
    }
    assert_int_equal(next, plan.units * plan.windows * of->groups);
    for (uint32_t i = 0; i < of->count; i++) {
        size_t tiles = (size_t)of->part[i].row_tiles * of->groups * of->part[i].k_tiles;
        for (size_t t = 0; t < tiles; t++) assert_int_equal(count.of[i][t], 1);
        free(count.of[i]);
    }
}

static void check_all(const struct products *of)
{
    struct stream_plan plan = plan_units(of);
    check(of, plan_ctas(of, &plan, 114));
    check(of, plan_ctas(of, &plan, 132));
}

static void every_tile_of_flash_is_done_once(void **unused)
{
    (void)unused;
    struct products of = { .groups = 1, .group_cols = 4096 };
    add_part(&of, 1024, 4096, LINEAR_FP8);
    add_part(&of, 512, 4096, LINEAR_FP8);
    for (int i = 0; i < 2; i++) add_part(&of, 1024, 4096, LINEAR_BF16);
    for (int i = 0; i < 2; i++) add_part(&of, 256, 4096, LINEAR_BF16);
    add_part(&of, 64, 4096, LINEAR_BF16);
    check_all(&of);

    of = (struct products){ .groups = 1, .group_cols = 1024 };
    add_part(&of, 32768, 1024, LINEAR_FP8);
    add_part(&of, 8192, 1024, LINEAR_FP8);
    check_all(&of);

    of = (struct products){ .groups = 8, .group_cols = 4096 };
    add_part(&of, 1024, 4096, LINEAR_RAW);
    check_all(&of);

    of = (struct products){ .groups = 1, .group_cols = 4096 };
    add_part(&of, 129280, 4096, LINEAR_BF16);
    check_all(&of);
}

static void every_tile_of_any_shapes_is_done_once(void **unused)
{
    static const uint32_t rows[] = { 2, 64, 70, 128, 1024, 2048, 4096, 7168, 16384 };
    (void)unused;
    for (int round = 0; round < 300; round++) {
        struct products of = { .groups = draw(4) ? 1 : 1 + draw(8) };
        of.group_cols = 128 * (1 + draw(draw(2) ? 4 : 60));
        uint32_t parts = of.groups > 1 ? 1 : 1 + draw(LINEAR_PARTS);
        for (uint32_t i = 0; i < parts; i++)
            add_part(&of, rows[draw(of.groups > 1 ? 4 : 9)], of.group_cols,
                     draw(2) ? LINEAR_FP8 : LINEAR_BF16);
        check_all(&of);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_of_flash_is_done_once),
        cmocka_unit_test(every_tile_of_any_shapes_is_done_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
