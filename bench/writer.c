// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

/* Process 1 of the benchmark's guest: 4 KiB writes past the page cache to random places of /dev/vda, RATE a
 * second. Each line on the console is a W and the microseconds that each of BATCH writes took; a write that
 * failed is told as -1.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>

enum { RATE = 200, BATCH = 25, BLOCK = 4096 };

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

static uint64_t random_number(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15ull;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int timed_write(int fd, const void *block, uint64_t blocks)
{
    int64_t started = now_us();
    off_t place = (off_t)(random_number() % blocks) * BLOCK;

    return pwrite(fd, block, BLOCK, place) == BLOCK ? (int)(now_us() - started) : -1;
}

int main(void)
{
    int fd = open("/dev/vda", O_RDWR | O_DIRECT);
    uint64_t bytes = 0;
    void *block;
    int64_t due = now_us();

    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) || posix_memalign(&block, BLOCK, BLOCK)) {
        perror("writer: /dev/vda");
        return 1;
    }
    for (;;) {
        int took[BATCH];

        for (int i = 0; i < BATCH; i++) {
            int64_t wait = due - now_us();

            if (wait > 0)
                usleep(wait);
            due = (wait < -1000000 ? now_us() : due) + 1000000 / RATE;
            took[i] = timed_write(fd, block, bytes / BLOCK);
        }
        printf("W");
        for (int i = 0; i < BATCH; i++)
            printf(" %d", took[i]);
        printf("\n");
        fflush(stdout);
    }
}
