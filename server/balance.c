/* balance.c - GET /user/balance, which DeepSeek's clients ask before they begin.
 *
 * No budgets are kept yet, so nobody's can be used up and there is no amount to name.
 */
#include "server/handlers.h"

static void answer(struct request *request)
{
    buf_add_string(&request->out, "{\"is_available\":true,\"balance_infos\":[]}");
}

const struct handler balance_handler = { .answer = answer };
