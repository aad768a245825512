/* cache_quotas_test.c - what the key file says reaches the engine by owner, and what the engine keeps is
 * told by tenant. An engine that only notes what it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "config/metrics.h"
#include "server/cache_quotas.h"

static struct {
    struct engine engine;
    struct engine_quota quota[8];  // [quotas]
    struct engine_kept kept[8];    // [kepts]
    uint32_t quotas, kepts;
} told;

static enum status take_quotas(struct engine *engine, const struct engine_quota *quota,
                               uint32_t count)
{
    (void)engine;
    must(count <= 8);
    memcpy(told.quota, quota, count * sizeof *quota);
    told.quotas = count;
    return OK;
}

static uint32_t give_kept(struct engine *engine, struct engine_kept *kept, uint32_t room)
{
    (void)engine;
    must(told.kepts <= room);
    memcpy(kept, told.kept, told.kepts * sizeof *kept);
    return told.kepts;
}

static const struct engine_face face = { .quotas = take_quotas, .kept = give_kept };

static struct access *open_text(const char *tenants)
{
    char path[] = "/tmp/fathom-quotas-XXXXXX";
    int fd = mkstemp(path);
    struct access *access = NULL;
    struct err err = { "" };
    assert_true(fd >= 0);
    dprintf(fd, "{\"tenants\":[%s]}", tenants);
    close(fd);
    if (access_open(path, &access, &err) != OK) print_error("%s\n", err.text);
    unlink(path);
    assert_non_null(access);
    for (uint32_t i = 0; access_tenant(access, i); i++)
        metric_tenant(access_tenant(access, i)->index, slice_of(access_tenant(access, i)->name));
    told.engine.face = &face;
    return access;
}

static const struct engine_quota *quota_of(const struct tenant *tenant)
{
    for (uint32_t i = 0; i < told.quotas; i++)
        if (memcmp(told.quota[i].cache_owner, tenant->owner, sizeof tenant->owner) == 0)
            return &told.quota[i];
    return NULL;
}

static void keep(const struct tenant *tenant, uint64_t device, uint64_t disk)
{
    struct engine_kept *kept = &told.kept[told.kepts++];
    *kept = (struct engine_kept){ .bytes = { device, 0, disk } };
    memcpy(kept->cache_owner, tenant->owner, sizeof kept->cache_owner);
}

#define LIMIT(bytes) "\"limits\":{\"cache_bytes\":" #bytes "}"

static void limits_and_weights_of_a_group_are_added_up(void **unused)
{
    (void)unused;
    struct access *access = open_text("{\"name\":\"a\",\"weight\":2," LIMIT(
        100) "},"
             "{\"name\":\"b\",\"group\":\"g\",\"weight\":3," LIMIT(
                 10) "},"
                     "{\"name\":\"c\"},"
                     "{\"name\":\"d\",\"group\":\"g\"," LIMIT(
                         20) "},"
                             "{\"name\":\"e\",\"group\":\"h\"," LIMIT(
                                 5) "},{\"name\":\"f\",\"group\":\"h\"},"
                                    "{\"name\":\"i\",\"group\":\"h\"," LIMIT(7) "}");
    const struct {
        uint32_t tenant, weight;
        uint64_t bytes;
    } want[] = { { 0, 2, 100 }, { 1, 4, 30 }, { 2, 1, 0 }, { 3, 4, 30 }, { 4, 3, 0 }, { 6, 3, 0 } };

    cache_quotas_tell(&told.engine, access);
    assert_int_equal(told.quotas, 4);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct engine_quota *quota = quota_of(access_tenant(access, want[i].tenant));
        assert_non_null(quota);
        assert_int_equal(quota->weight, want[i].weight);
        assert_int_equal(quota->bytes, want[i].bytes);
    }
    access_drop(access);
}

static void nobody_is_told_while_there_is_no_engine_or_no_table(void **unused)
{
    (void)unused;
    struct access *access = open_text("{\"name\":\"a\"}");
    told.quotas = 7;
    cache_quotas_tell(NULL, access);
    cache_quotas_tell(&told.engine, NULL);
    assert_int_equal(told.quotas, 7);
    access_drop(access);
}

static int64_t level(enum metric metric, const struct access *access, uint32_t tenant)
{
    return metric_value_for(metric, access_tenant(access, tenant)->index);
}

static void levels_follow_what_is_kept_and_a_group_counts_once(void **unused)
{
    (void)unused;
    struct access *access = open_text("{\"name\":\"a\"},{\"name\":\"b\",\"group\":\"g\"},"
                                      "{\"name\":\"c\",\"group\":\"g\"},{\"name\":\"d\"}");
    told.kepts = 0;
    keep(access_tenant(access, 2), 50, 60);
    keep(access_tenant(access, 0), 7, 0);
    cache_kept_metrics(&told.engine, access);
    assert_int_equal(level(METRIC_tenant_cache_bytes_device, access, 0), 7);
    assert_int_equal(level(METRIC_tenant_cache_bytes_device, access, 1), 50);
    assert_int_equal(level(METRIC_tenant_cache_bytes_disk, access, 1), 60);
    assert_int_equal(level(METRIC_tenant_cache_bytes_device, access, 2), 0);
    told.kepts = 0;
    keep(access_tenant(access, 0), 9, 1);
    cache_kept_metrics(&told.engine, access);
    assert_int_equal(level(METRIC_tenant_cache_bytes_device, access, 0), 9);
    assert_int_equal(level(METRIC_tenant_cache_bytes_disk, access, 1), 0);
    struct access *without = open_text("{\"name\":\"d\"}");
    cache_kept_metrics(&told.engine, without);
    assert_int_equal(level(METRIC_tenant_cache_bytes_device, access, 0), 0);
    access_drop(without);
    access_drop(access);
}

static void a_tenant_finds_what_it_keeps_by_its_owner(void **unused)
{
    (void)unused;
    struct access *access = open_text("{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}");
    struct cache_kept list;
    told.kepts = 0;
    keep(access_tenant(access, 2), 3, 0);
    keep(access_tenant(access, 1), 2, 0);
    cache_kept_take(&told.engine, &list);
    assert_null(cache_kept_of(&list, access_tenant(access, 0)));
    for (uint32_t i = 1; i < 3; i++)
        assert_int_equal(cache_kept_of(&list, access_tenant(access, i))->bytes[KV_DEVICE], i + 1);
    cache_kept_take(NULL, &list);
    assert_null(cache_kept_of(&list, access_tenant(access, 1)));
    access_drop(access);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_and_weights_of_a_group_are_added_up),
        cmocka_unit_test(nobody_is_told_while_there_is_no_engine_or_no_table),
        cmocka_unit_test(levels_follow_what_is_kept_and_a_group_counts_once),
        cmocka_unit_test(a_tenant_finds_what_it_keeps_by_its_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
