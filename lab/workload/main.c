// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

/* The workload of the lab's guests: a chain of VMs in which each record is written by one VM after the other.
 *
 *   workload write VM A B RATE NEXT    write records: RATE a second if this VM leads the chain, or as the VM
 *                                      before tells it if RATE is 0; NEXT is ADDRESS:PORT of the next VM or -
 *   workload report VM A B             print the newest record of each file as JSON
 *
 * A VM writes record n only after the VM before it holds n durably on both disks. So at no instant is a VM
 * ahead of the one before it; a set of copies in which one is was not copied at one instant.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "link.h"

enum { LISTEN_PORT = 7000, LONGEST_WAIT_MS = 100, FARTHEST_AHEAD = 50 };

static int report(const char *vm, const char *const paths[2])
{
    struct journal journal;

    journal_open(&journal, vm, paths, false);
    uint64_t b = journal_newest(&journal, 1); /* first B, which is never ahead of A */
    printf("{\"a\": %" PRIu64 ", \"b\": %" PRIu64 "}\n", journal_newest(&journal, 0), b);
    return 0;
}

static void wait_for_news(const struct link *before, const struct link *next, int64_t milliseconds)
{
    struct pollfd sockets[] = {{before->listener, POLLIN, 0}, {before->fd, POLLIN, 0}, {next->fd, POLLIN, 0}};

    if (milliseconds > 0)
        poll(sockets, 3, milliseconds < LONGEST_WAIT_MS ? (int)milliseconds : LONGEST_WAIT_MS);
}

/* The next VM is given time to follow while it answers; one that does not answer holds nobody up. */
static bool too_far_ahead(const struct journal *journal, const struct link *next)
{
    return next->alive && journal->newest >= next->heard + FARTHEST_AHEAD;
}

_Noreturn static void work(const char *vm, const char *const paths[2], int rate, const char *next_address)
{
    struct journal journal;
    struct link before, next;
    int64_t due = clock_ms();

    journal_open(&journal, vm, paths, true);
    link_listen(&before, LISTEN_PORT);
    link_to(&next, next_address);
    printf("workload: %s starts after record %" PRIu64 "\n", vm, journal.newest);
    for (;;) {
        link_step(&before, journal.newest);
        link_step(&next, journal.newest);
        int64_t wait = rate ? due - clock_ms() : before.heard > journal.newest ? 0 : LONGEST_WAIT_MS;
        bool hold = journal.stopped || too_far_ahead(&journal, &next);
        if (hold || wait > 0) {
            wait_for_news(&before, &next, hold ? LONGEST_WAIT_MS : wait);
            continue;
        }
        journal_append(&journal, next.heard);
        due = rate ? due + 1000 / rate : due;
        if (due < clock_ms() - 1000)
            due = clock_ms(); /* after a long pause: go on, do not catch up */
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "report"))
        return report(argv[2], (const char *const[]){argv[3], argv[4]});
    if (argc == 7 && !strcmp(argv[1], "write"))
        work(argv[2], (const char *const[]){argv[3], argv[4]}, atoi(argv[5]), argv[6]);
    fprintf(stderr, "usage: workload write VM A B RATE NEXT | workload report VM A B\n");
    return 2;
}
