/* vocab_settings.h - is the tokenizer that a file describes the one we have? Private to vocab.c. */
#ifndef ENGINE_TEXT_VOCAB_SETTINGS_H
#define ENGINE_TEXT_VOCAB_SETTINGS_H

#include "config/json.h"

/* BAD_INPUT: err names the field of the document, what was found and what was wanted. */
CHECKED enum status vocab_check_settings(const struct json *root, struct err *err);

#endif
