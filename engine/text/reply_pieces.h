/* reply_pieces.h - for fuzzers of what a model says: bytes that stand for pieces of its language, so
 * that markers and values that are hard to guess come up at once.
 */
#ifndef ENGINE_TEXT_REPLY_PIECES_H
#define ENGINE_TEXT_REPLY_PIECES_H

#include "config/buf.h"

/* Bytes 0x80 to 0x8f, and those from 0xf5 up that no UTF-8 has, each append a piece, others themselves. */
static void pieces_add(struct buf *out, const uint8_t *data, size_t size)
{
    static const char *const piece[256] = {
        [0x80] = "<｜DSML｜",
        [0x81] = "</｜DSML｜",
        [0x82] = "tool_calls>",
        [0x83] = "invoke name=\"f\">",
        [0x84] = "invoke>",
        [0x85] = "parameter name=\"",
        [0x86] = "\" string=\"true\">",
        [0x87] = "\" string=\"false\">",
        [0x88] = "parameter>",
        [0x89] = "</think>",
        [0x8a] = "<think>",
        [0x8b] = "<｜end▁of▁sentence｜>",
        [0x8c] = "{\"c\": \"x\"}",
        [0x8d] = "<｜DSML｜ calls>",
        [0x8e] = "arguments",
        [0x8f] = "\n\n",
        [0xf5] = "1e999",
        [0xf6] = "18446744073709551616",
        [0xf7] = "\\u0000",
        [0xf8] = "\\ud83d",
        [0xf9] = "\\ude00",
        [0xfa] = "{\"a\": [1, ",
        [0xfb] = ", \"a\": -0.5e-7}",
        [0xfc] = "input",
        [0xfd] = "STOP",
        [0xfe] = "\xe2\x80\xa8",
        [0xff] = "😀",
    };
    for (size_t i = 0; i < size; i++) {
        if (piece[data[i]]) buf_add_string(out, piece[data[i]]);
        else buf_add_byte(out, (char)data[i]);
    }
}

#endif
