/* models.h - the names under which the model is served: its own and the option's aliases. */
#ifndef SERVER_MODELS_H
#define SERVER_MODELS_H

#include "config/slice.h"
#include "server/service.h"

/* Any thread. */
bool models_served(const struct service *service, struct slice name);

#endif
