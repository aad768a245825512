/* watchdog_test.c - an engine that stands still with work is not well; one at rest or at work is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "config/clock.h"
#include "server/watchdog.h"

static void rest_and_work_are_well_and_standing_still_is_not(void **unused)
{
    static const struct {
        const char *what;
        uint32_t running, waiting;
        uint64_t steps, read_bytes;
        bool well;
    } looks[] = {
        { "at rest", 0, 0, 10, 0, true },
        { "a job came this moment", 1, 0, 10, 0, true },
        { "no step since", 1, 0, 10, 0, false },
        { "nor now", 1, 3, 10, 0, false },
        { "a step", 1, 3, 11, 0, true },
        { "the next look comes before the next step", 1, 3, 11, 0, true },
        { "and the one after too", 1, 3, 11, 0, false },
        { "its prefix comes up from the disk", 0, 1, 11, 4096, true },
        { "and rests again", 0, 0, 11, 4096, true },
        { "for ever", 0, 0, 11, 4096, true },
    };
    struct watchdog watchdog = { 0 };
    (void)unused;

    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        const struct engine_stats stats = { .running = looks[i].running,
                                            .waiting = looks[i].waiting,
                                            .steps = looks[i].steps,
                                            .cache.disk_read_bytes = looks[i].read_bytes };
        bool well = watchdog_is_well(&watchdog, &stats, (i + 1) * NS_PER_S / 4);
        if (well != looks[i].well) print_error("%s\n", looks[i].what);
        assert_int_equal(well, looks[i].well);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rest_and_work_are_well_and_standing_still_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
