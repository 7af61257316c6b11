# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# sh build.sh TARGET: builds the documentation of the collection and its guides as HTML. Needs no network.
set -eu
here=$(dirname "$0")
target=$1
source="$target/rst"

rm -rf "$target"
(umask 077; mkdir -p "$source/collections/livebackup/qemu")
cp "$here/conf.py" "$here/index.rst" "$source"
antsibull-docs --config-file "$here/antsibull-docs.cfg" collection --use-current --fail-on-error --squash-hierarchy \
    --no-indexes --no-breadcrumbs --dest-dir "$source/collections/livebackup/qemu" livebackup.qemu
sphinx-build --quiet -W --keep-going -b html "$source" "$target/html"
echo "written: $target/html/index.html"
