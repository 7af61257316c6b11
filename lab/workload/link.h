// SPDX-FileCopyrightText: The Livebackup authors
// SPDX-License-Identifier: GPL-3.0-or-later

/* A TCP connection over which two VMs tell each other the newest record each holds durably.
 *
 * A message is that number, 8 bytes little endian. Numbers are cumulative: a lost connection loses nothing,
 * because the first message on a new one says where the sender stands, and the receiver of a number writes
 * every record up to it in order. Each side repeats its number as a sign of life.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct link {
    int listener;            /* -1 on the side that connects */
    struct sockaddr_in peer; /* of the side that connects; sin_port 0 if there is no peer */
    int fd;                  /* -1 while not connected */
    uint64_t heard;          /* the number the peer told last; kept over reconnects */
    uint64_t told;           /* the newest number told to the peer */
    bool alive;              /* the peer has told something over this connection */
    int64_t heard_at, told_at;
    uint8_t pending[8];
    int pending_bytes;
};

/* Monotonic milliseconds. */
int64_t clock_ms(void);

void link_listen(struct link *link, int port);
void link_to(struct link *link, const char *address_and_port);

/* Take or make the connection as needed, read what the peer told, and tell `newest`. Never blocks. */
void link_step(struct link *link, uint64_t newest);
