/* random_id.c - straight from the kernel: no generator of ours holds a state that could leak. */
#include "server/random_id.h"
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include "config/status.h"

void random_id_make(char id[RANDOM_ID_SIZE], const char *prefix)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t random[16];
    size_t at = strlen(prefix);

    must(at + 2 * sizeof random + 1 <= RANDOM_ID_SIZE);
    must(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);  // so few never fall short
    memcpy(id, prefix, at);
    for (size_t i = 0; i < sizeof random; i++) {
        id[at++] = digits[random[i] >> 4];
        id[at++] = digits[random[i] & 15];
    }
    id[at] = '\0';
}
