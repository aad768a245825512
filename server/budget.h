/* budget.h - what tenants' budgets of tokens have seen of earlier runs, from the usage log.
 *
 * A budget counts from the start of the daemon unless there is a usage log: then it counts what that file
 * still holds too. So a log that was rotated away takes its tokens along at the next start.
 */
#ifndef SERVER_BUDGET_H
#define SERVER_BUDGET_H

#include "server/limits.h"

/* Counts the file's records of tenants that are in the table. Does nothing where no tenant has a budget;
 * no file is an empty one. IO_FAILED: it cannot be read. Before the loop runs; a million records take
 * about a second. */
CHECKED enum status budget_read(const char *path, const struct access *access,
                                struct limits *limits, struct err *err);

#endif
