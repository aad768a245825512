/* balance.c - GET /user/balance, which DeepSeek's clients ask before they begin: the tenant's budget of
 * tokens. There is no money here, so the currency is called what it is.
 */
#include "server/handlers.h"
#include "server/limits.h"
#include "server/service.h"

static void answer(struct request *request)
{
    const struct tenant *tenant = request->caller.tenant;
    struct limits_levels levels = { 0 };

    if (tenant && request->service->limits)
        limits_show(request->service->limits, tenant, request->arrived_ns, &levels);
    if (!levels.budget) {  // nothing can be used up
        buf_add_string(&request->out, "{\"is_available\":true,\"balance_infos\":[]}");
        return;
    }
    unsigned long long left = levels.budget > levels.spent ? levels.budget - levels.spent : 0;
    buf_addf(&request->out,
             "{\"is_available\":%s,\"balance_infos\":[{\"currency\":\"TOKENS\",\"total_balance\":"
             "\"%llu\","
             "\"granted_balance\":\"%llu\",\"topped_up_balance\":\"0\"}]}",
             left ? "true" : "false", left, left);
}

const struct handler balance_handler = { .answer = answer };
