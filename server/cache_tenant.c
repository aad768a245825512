/* cache_tenant.c - five kinds of text, each hashed behind its kind and length. */
#include "server/cache_tenant.h"

static struct sha256_part part_of(struct slice text)
{
    return (struct sha256_part){ text.data ? text.data : "", text.size };
}

/* Of up to two texts of one kind. */
static void digest(struct slice kind, struct slice a, struct slice b, uint8_t out[SHA256_BYTES])
{
    uint64_t size[2] = { a.size, b.size };  // as this machine writes them: the directory is its own
    const struct sha256_part part[] = {
        part_of(kind), { size, sizeof size }, part_of(a), part_of(b)
    };

    sha256(part, sizeof part / sizeof *part, out);
}

void cache_owner_of(struct slice tenant, uint8_t owner[SHA256_BYTES])
{
    digest(SLICE("fathom name"), tenant, (struct slice){ "", 0 }, owner);
}

void cache_group_of(struct slice group, uint8_t owner[SHA256_BYTES])
{
    digest(SLICE("fathom grp "), group, (struct slice){ "", 0 }, owner);
}

void cache_user_of(struct slice user, uint8_t user_digest[SHA256_BYTES])
{
    if (user.size) digest(SLICE("fathom user"), user, (struct slice){ "", 0 }, user_digest);
    else memset(user_digest, 0, SHA256_BYTES);
}

void cache_salt_of(struct slice cache_salt, struct slice extra_key, uint8_t salt[SHA256_BYTES])
{
    if (cache_salt.size || extra_key.size)
        digest(SLICE("fathom salt"), cache_salt, extra_key, salt);
    else memset(salt, 0, SHA256_BYTES);
}

void cache_tenant_of(const uint8_t owner[SHA256_BYTES], const uint8_t user_digest[SHA256_BYTES],
                     uint8_t tenant[SHA256_BYTES])
{
    digest(SLICE("fathom asks"), (struct slice){ (const char *)owner, SHA256_BYTES },
           (struct slice){ (const char *)user_digest, SHA256_BYTES }, tenant);
}
