#!/bin/sh
# Destroys a token and its keys for good:
#   destroy.sh DIR
# Removes only what create.sh and package softhsm make, and DIR when that leaves
# it empty. Stop every process that uses the token first.
set -eu
[ $# -eq 1 ] && [ -f "$1/softhsm2.conf" ] || { echo "usage: $0 DIR (with a softhsm2.conf)" >&2; exit 2; }
for name in label libsofthsm2.so pin so-pin tokens softhsm2.conf; do
	rm -rf "${1:?}/$name"
done
rmdir "$1" 2>/dev/null || echo "$1 is not empty and stays" >&2
