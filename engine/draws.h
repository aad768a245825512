/* draws.h - the sampling parameters of a step's rows as the device reads them, and what it drew.
 *
 * Rows are filled with host pointers; the upload copies their lists (counts for penalties, biases,
 * masks) to the device and lets the rows point there. The device's rows and answers stay at their
 * addresses for good, so a captured step may use them. Thread: the engine's.
 */
#ifndef ENGINE_DRAWS_H
#define ENGINE_DRAWS_H

#include "kernels/ops.h"

struct draws {
    struct dev *dev;
    uint32_t rows, vocab;            // room; ids of the mask
    struct sample_row *row;          // [rows] the caller's to fill
    struct sample_row *host_row[2];  // pinned, taking turns
    struct sample_out *host_out[2];  // likewise
    char *host_list[2], *list;       // likewise; device
    size_t list_bytes;               // room; grows
    struct sample_row *device_row;   // [rows]
    struct sample_out *device_out;   // [rows]
    uint32_t turn;
};

CHECKED enum status draws_init(struct draws *draws, struct dev *dev, uint32_t rows, uint32_t vocab);
void draws_release(struct draws *draws);

/* Bytes taken from the device. */
size_t draws_bytes(const struct draws *draws);

/* Queues the copy of row[0, count), and behind it rows that draw nothing up to `padded`. The upload
 * before the last must have been carried out by now. NO_MEMORY: the lists do not fit. */
CHECKED enum status draws_upload(struct draws *draws, uint32_t count, uint32_t padded,
                                 struct err *err);

/* Queues the copy back of the answers; where they will stand until the upload after the next. */
const struct sample_out *draws_fetch(struct draws *draws, uint32_t count);

#endif
