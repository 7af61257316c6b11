// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

#define _GNU_SOURCE
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIGN_OF_LIFE_MS = 500, SILENCE_MS = 3000, RETRY_MS = 200 };

int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

static void link_clear(struct link *link)
{
    memset(link, 0, sizeof *link);
    link->listener = link->fd = -1;
}

static void link_drop(struct link *link)
{
    close(link->fd);
    link->fd = -1;
    link->alive = false;
    link->pending_bytes = 0;
}

static void link_adopt(struct link *link, int fd)
{
    if (link->fd >= 0)
        link_drop(link);
    link->fd = fd;
    link->heard_at = clock_ms();
    link->told_at = 0;
}

void link_listen(struct link *link, int port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};

    link_clear(link);
    link->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->listener < 0 || bind(link->listener, (void *)&here, sizeof here) || listen(link->listener, 4)) {
        perror("workload: listen");
        exit(1);
    }
}

void link_to(struct link *link, const char *address_and_port)
{
    char address[64];
    int port = 0;

    link_clear(link);
    if (sscanf(address_and_port, "%63[^:]:%d", address, &port) == 2 &&
        inet_aton(address, &link->peer.sin_addr)) {
        link->peer.sin_family = AF_INET;
        link->peer.sin_port = htons(port);
    }
}

static void link_connect(struct link *link)
{
    if (!link->peer.sin_port || link->fd >= 0 || clock_ms() - link->heard_at < RETRY_MS)
        return;
    link_adopt(link, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (connect(link->fd, (void *)&link->peer, sizeof link->peer) && errno != EINPROGRESS)
        link_drop(link);
}

static void link_accept(struct link *link)
{
    int fd;

    if (link->listener < 0)
        return;
    while ((fd = accept4(link->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (link->alive)
            close(fd); /* an attempt the peer gave up long ago may arrive after a partition */
        else
            link_adopt(link, fd);
    }
}

static void link_note(struct link *link, ssize_t got)
{
    link->heard_at = clock_ms();
    link->pending_bytes += got;
    if (link->pending_bytes == sizeof link->pending) {
        memcpy(&link->heard, link->pending, sizeof link->heard);
        link->pending_bytes = 0;
        link->alive = true;
    }
}

static void link_hear(struct link *link)
{
    ssize_t got = -1;

    while (link->fd >= 0) {
        int had = link->pending_bytes;
        got = recv(link->fd, link->pending + had, sizeof link->pending - had, 0);
        if (got <= 0)
            break;
        link_note(link, got);
    }
    if (link->fd >= 0 && (got == 0 || errno != EAGAIN || clock_ms() - link->heard_at > SILENCE_MS))
        link_drop(link);
}

static void link_tell(struct link *link, uint64_t newest)
{
    ssize_t sent = send(link->fd, &newest, sizeof newest, MSG_NOSIGNAL);

    if (sent == sizeof newest) {
        link->told = newest;
        link->told_at = clock_ms();
    } else if (sent >= 0 || errno != EAGAIN) {
        link_drop(link);
    }
}

void link_step(struct link *link, uint64_t newest)
{
    link_accept(link);
    link_connect(link);
    link_hear(link);
    if (link->fd >= 0 && (newest != link->told || clock_ms() - link->told_at > SIGN_OF_LIFE_MS))
        link_tell(link, newest);
}
