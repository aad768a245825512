/* grammar_account.h - what one grammar of a store is charged with; grammar_store.c keeps the books.
 * Private to engine/grammar.
 *
 * Who calls holds the grammar, so it is in use, and its account stays. Thread: any; no lock of a mask
 * cache may be held, since grammars that go to make room release theirs.
 */
#ifndef ENGINE_GRAMMAR_GRAMMAR_ACCOUNT_H
#define ENGINE_GRAMMAR_GRAMMAR_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>

struct grammar_account;

/* NULL is charged with nothing, and may always. False: there is no room, and nothing was charged. */
bool grammar_account_take(struct grammar_account *account, size_t bytes);
void grammar_account_give(struct grammar_account *account, size_t bytes);

/* A mask was made that may not stay. */
void grammar_account_note_unkept(struct grammar_account *account);

#endif
