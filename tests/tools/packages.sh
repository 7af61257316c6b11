# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# sh packages.sh LIST...: installs the Debian packages named in the lists that are not installed yet.
# Nothing is asked of the package registry when none is missing.
set -eu

installed() {
    dpkg-query --show --showformat '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

missing=""
# shellcheck disable=SC2013  # names without blanks, one a line
for package in $(sed 's/#.*//' "$@" | sort -u); do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

run_as_root=""
if [ "$(id -u)" -ne 0 ]; then
    run_as_root="sudo"
fi
echo "installing:$missing"
$run_as_root apt-get --quiet=2 update
# shellcheck disable=SC2086  # a list of names
$run_as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --option DPkg::Lock::Timeout=600 \
    install --yes --no-install-recommends $missing
