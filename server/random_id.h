/* random_id.h - names nobody can guess: a prefix and 128 random bits in hexadecimal. */
#ifndef SERVER_RANDOM_ID_H
#define SERVER_RANDOM_ID_H

#define RANDOM_ID_SIZE 48  // room for a prefix of 15 bytes, 32 digits and the NUL

/* Any thread. */
void random_id_make(char id[RANDOM_ID_SIZE], const char *prefix);

#endif
