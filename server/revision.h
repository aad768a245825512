/* revision.h - which commit this binary was built from. Thread: any. */
#ifndef SERVER_REVISION_H
#define SERVER_REVISION_H

const char *build_revision(void);  // "unknown" outside a repository

#endif
