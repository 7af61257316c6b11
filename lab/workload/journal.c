// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"

static bool holds(const struct journal *journal, int disk, uint64_t number)
{
    struct record record;
    off_t offset = (off_t)(number - 1) * RECORD_SIZE;

    return pread(journal->fd[disk], &record, sizeof record, offset) == sizeof record &&
           record_valid(&record, journal->owner[disk], number);
}

uint64_t journal_newest(const struct journal *journal, int disk)
{
    struct stat status;
    uint64_t number;

    if (fstat(journal->fd[disk], &status))
        return 0;
    for (number = (uint64_t)status.st_size / RECORD_SIZE; number && !holds(journal, disk, number);)
        number--;
    return number;
}

void journal_open(struct journal *journal, const char *vm, const char *const paths[2], bool writable)
{
    int flags = O_CLOEXEC | (writable ? O_RDWR | O_CREAT : O_RDONLY);

    for (int disk = 0; disk < 2; disk++) {
        snprintf(journal->owner[disk], sizeof journal->owner[disk], "%s/%c", vm, 'a' + disk);
        journal->fd[disk] = open(paths[disk], flags, 0600);
        if (journal->fd[disk] < 0 && (writable || errno != ENOENT)) {
            perror(paths[disk]);
            exit(1);
        }
    }
    uint64_t a = journal_newest(journal, 0), b = journal_newest(journal, 1);
    journal->newest = a < b ? a : b;
    journal->stopped = false;
}

/* A record that did not fit is taken back, so that the file ends with a whole one. */
static bool put(struct journal *journal, int disk, const struct record *record)
{
    off_t offset = (off_t)(record->number - 1) * RECORD_SIZE;
    int fd = journal->fd[disk];

    errno = ENOSPC; /* what a short write means */
    if (pwrite(fd, record, sizeof *record, offset) == sizeof *record && !fsync(fd))
        return true;
    fprintf(stderr, "workload: stopped at record %llu of %s: %s\n", (unsigned long long)record->number,
            journal->owner[disk], strerror(errno));
    if (ftruncate(fd, offset))
        perror("workload: ftruncate");
    return false;
}

void journal_append(struct journal *journal, uint64_t acknowledged)
{
    struct record record;

    for (int disk = 0; disk < 2; disk++) {
        record_build(&record, journal->owner[disk], journal->newest + 1, acknowledged);
        if (!put(journal, disk, &record)) {
            journal->stopped = true;
            return;
        }
    }
    journal->newest++;
}
