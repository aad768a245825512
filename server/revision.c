/* revision.c - the one object that is compiled again after each commit (Makefile). */
#include "server/revision.h"

#ifndef FATHOM_REVISION
#define FATHOM_REVISION "unknown"
#endif

const char *build_revision(void)
{
    return FATHOM_REVISION;
}
