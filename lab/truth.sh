# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# Copy the disk images of the machines in LIVEBACKUP_VMS (comma separated) as they are now, while the machines
# stand still, to the truth of LIVEBACKUP_SESSION. Plain cp: neither QEMU nor the product has a hand in it.

set -eu
images=/var/lib/livebackup-lab
target=$images/truth/$LIVEBACKUP_SESSION
mkdir -p "$target"
copies=
for vm in $(echo "$LIVEBACKUP_VMS" | tr ',' ' '); do
    for image in "$images/$vm"/*; do
        cp --sparse=always "$image" "$target/$vm-${image##*/}" &
        copies="$copies $!"
    done
done
for copy in $copies; do
    wait "$copy"
done
