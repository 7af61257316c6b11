// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

/* One record of the workload. lab/records.py reads the same format.
 *
 * Record n lives at offset (n - 1) * RECORD_SIZE, so a file only grows and a lost or torn record is seen
 * at its place. All numbers are little endian.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORD_SIZE = 1024 };

struct record {
    char magic[8];
    uint64_t number;
    uint64_t acknowledged; /* the newest number known to be durable in the next VM when this was written */
    char owner[16];        /* "db/a": the VM and disk, so that a swapped image is noticed */
    uint32_t checksum;     /* CRC-32 (IEEE) of the whole record with this field zero */
    uint32_t reserved;
    uint8_t payload[RECORD_SIZE - 48];
};

/* Fill `record` for `number`; its payload follows from the number and the owner. */
void record_build(struct record *record, const char *owner, uint64_t number, uint64_t acknowledged);

/* Is this the intact record `number` of `owner`? */
bool record_valid(const struct record *record, const char *owner, uint64_t number);
