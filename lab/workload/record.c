// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "record.h"

#include <string.h>

static const char MAGIC[8] = {'L', 'B', 'R', 'E', 'C', 'R', 'D', '1'};

static uint32_t crc32_of(const void *data, size_t length)
{
    const uint8_t *byte = data;
    uint32_t crc = 0xFFFFFFFFu;

    while (length--) {
        crc ^= *byte++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? 0xEDB88320u ^ (crc >> 1) : crc >> 1;
    }
    return ~crc;
}

static uint32_t checksum_of(const struct record *record)
{
    struct record copy = *record;

    copy.checksum = 0;
    return crc32_of(&copy, sizeof copy);
}

static void fill_payload(struct record *record)
{
    uint64_t state = record->number * 0x9E3779B97F4A7C15ull ^ (uint8_t)record->owner[0];

    for (size_t i = 0; i < sizeof record->payload; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        record->payload[i] = (uint8_t)state;
    }
}

void record_build(struct record *record, const char *owner, uint64_t number, uint64_t acknowledged)
{
    memset(record, 0, sizeof *record);
    memcpy(record->magic, MAGIC, sizeof MAGIC);
    strncpy(record->owner, owner, sizeof record->owner - 1);
    record->number = number;
    record->acknowledged = acknowledged;
    fill_payload(record);
    record->checksum = checksum_of(record);
}

bool record_valid(const struct record *record, const char *owner, uint64_t number)
{
    return !memcmp(record->magic, MAGIC, sizeof MAGIC) && record->number == number &&
           !strncmp(record->owner, owner, sizeof record->owner) && record->checksum == checksum_of(record);
}
