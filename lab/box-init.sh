# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Process 1 of the lab box, run by sh in its new namespaces: box-init.sh ADDRESS/PREFIX READY_FILE
# It makes a plain cgroup2 tree (a hybrid one is refused by systemd-nspawn) and a bridge without a way out.

set -eu
umount -R /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/netns /run/systemd
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /run/systemd
hostname livebackup-lab
ip link set lo up
ip link add br0 type bridge
ip addr add "$1" dev br0
ip link set br0 up
echo ready > "$2"
# A shell that waits also reaps the processes that lost their parent.
while :; do
    sleep 3600 &
    wait $!
done
