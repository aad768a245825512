/* models.h - the names under which the model is served: its own and the option's aliases. */
#ifndef SERVER_MODELS_H
#define SERVER_MODELS_H

#include "config/slice.h"
#include "server/fields.h"
#include "server/request.h"
#include "server/service.h"

/* Any thread. */
bool models_served(const struct service *service, struct slice name);

/* May the request's caller name this model? A name that is not served, but taken, stands for the model's
 * own. BAD_INPUT: fills refused, a 403. Any thread that has the request. */
CHECKED enum status models_check_caller(const struct request *request, struct slice name,
                                        struct refused *refused);

#endif
