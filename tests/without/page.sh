#!/usr/bin/env bash
# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# page.sh PAGE STORE VM DISK TO [KEY]
#
# Restores as the page "Restoring without Livebackup" says: its own command blocks, as they are printed, run in a
# shell that finds nothing but the core utilities and qemu-img. What the reader decides is done here: the
# settings, and taking the newest point that is kept. Prints that point.
set -euo pipefail
page=$1 copy=$2

block() {
    local line inside='' found=''
    while IFS= read -r line; do
        if [ -n "$inside" ]; then
            case $line in
                '   '*) printf '%s\n' "${line#   }" ;;
                '') printf '\n' ;;
                *) break ;;
            esac
        elif [ "$line" = "   :caption: $1" ]; then
            inside=yes found=yes
        fi
    done < "$page"
    [ -n "$found" ] || { echo "the page has no block $1" >&2; exit 1; }
}

# A reader changes values, never names.
names() { block "$1" | while IFS='=' read -r name _; do [ -z "$name" ] || echo "$name"; done; }
[ "$(names settings.sh | paste -sd' ')" = "store vm disk to" ]
[ "$(names point.sh)" = point ]
[ "$(names key.sh)" = key ]

[ ! -e "$copy/catalog.sqlite3" ]
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
for tool in $(dpkg -L coreutils) "$(command -v qemu-img)" "$(command -v bash)"; do
    case $tool in */bin/*) [ -x "$tool" ] && ln -s "$tool" "$tools/" ;; esac
done

printf -v settings 'store=%q vm=%q disk=%q to=%q key=%q\n' "$copy" "$3" "$4" "$5" "${6-}"
commands="set -euo pipefail; $settings"
in_shell() { env -i PATH="$tools" "$tools/bash" -c "$1"; }

listing=$(block points.sh)
point=
while read -r id state _; do
    if [ "$state" = kept ]; then
        point=$id
        break
    fi
done <<< "$(in_shell "$commands$listing")"
[ -n "$point" ]

steps="chain.sh restore.sh compare.sh"
[ -z "${6-}" ] || steps=restore-encrypted.sh
commands+="point=$point; cd \"\$store/vms/\$vm/\$disk\""
for step in members.sh $steps; do
    code=$(block "$step")
    in_shell "$commands"$'\n'"$code" >&2
done
echo "$point"
