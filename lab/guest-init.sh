# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Process 1 of the lab's guests, run by busybox sh from the initramfs.
# Kernel command line: lab.name=VM lab.rate=RECORDS_PER_SECOND lab.next=ADDRESS:PORT lab.mode=work|idle|root

export PATH=/bin:/sbin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp

name=guest rate=0 next=- mode=work
# shellcheck disable=SC2013  # the words are wanted
for word in $(cat /proc/cmdline); do
    case $word in
        lab.name=*) name=${word#*=} ;;
        lab.rate=*) rate=${word#*=} ;;
        lab.next=*) next=${word#*=} ;;
        lab.mode=*) mode=${word#*=} ;;
    esac
done
hostname "$name"

while read -r module; do
    insmod "/lib/modules/$module"
done < /modules.list

ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2

# The disk with the serial number A is mounted at /a, B at /b.
for disk in /sys/block/vd*; do
    case $(cat "$disk/serial" 2>/dev/null) in
        A) mount -t ext4 -o noatime "/dev/${disk##*/}" /a ;;
        B) mount -t ext4 -o noatime "/dev/${disk##*/}" /b ;;
    esac
done

# The system on the disk with the serial number A takes over.
if [ "$mode" = root ]; then
    exec switch_root /a /sbin/init
fi

# Two agents: one for the product, one for the tests, since an agent's socket serves one client at a time.
for port in /sys/class/virtio-ports/*; do
    agent=$(cat "$port/name" 2>/dev/null)
    case $agent in
        org.qemu.guest_agent.0 | livebackup.lab.0)
            state=/run/$agent
            mkdir -p "$state"
            qemu-ga -d -m virtio-serial -p "/dev/${port##*/}" -t "$state" -l "$state/log" -f "$state/pid"
            ;;
    esac
done

echo "lab guest $name: mode $mode after $(cut -d' ' -f1 /proc/uptime) s"
printf '#!/bin/sh\nexec workload report %s /a/records /b/records\n' "$name" > /run/report
chmod 755 /run/report
if [ "$mode" = work ] && grep -q " /a " /proc/mounts && grep -q " /b " /proc/mounts; then
    workload write "$name" /a/records /b/records "$rate" "$next" > /dev/console 2>&1 &
fi
while :; do
    sleep 3600 &
    wait $!
done
