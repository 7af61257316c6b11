// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

/* The pair of files a VM writes: record n goes to disk A and is made durable before it goes to disk B. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct journal {
    int fd[2];
    char owner[2][16];
    uint64_t newest; /* durable on both disks */
    bool stopped;    /* a disk is full or broken: nothing is written any more */
};

/* Open both files and find the newest record both hold; one to read may be absent. Exits on failure. */
void journal_open(struct journal *journal, const char *vm, const char *const paths[2], bool writable);

/* The newest intact record of one of the two files; 0 if there is none. */
uint64_t journal_newest(const struct journal *journal, int disk);

/* Write the next record to A, fsync, then to B, fsync. Sets `stopped` if a disk has no room for it. */
void journal_append(struct journal *journal, uint64_t acknowledged);
