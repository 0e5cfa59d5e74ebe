#!/bin/sh
# Shows a token that create.sh or package softhsm made:
#   inspect.sh DIR
# With pkcs11-tool (Debian: opensc) it lists the objects and their usage bits too.
set -eu
[ $# -eq 1 ] && [ -f "$1/softhsm2.conf" ] || { echo "usage: $0 DIR (with a softhsm2.conf)" >&2; exit 2; }
dir=$(cd "$1" && pwd)
SOFTHSM2_CONF=$dir/softhsm2.conf
export SOFTHSM2_CONF
softhsm2-util --show-slots
command -v pkcs11-tool >/dev/null || exit 0
for module in "${SOFTHSM2_MODULE:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so; do
	[ -f "$module" ] || continue
	# "env:" keeps the PIN out of the argument list.
	SIGNET_PIN=$(cat "$dir/pin") pkcs11-tool --module "$module" --token-label "$(cat "$dir/label")" \
		--login --pin env:SIGNET_PIN --list-objects
	exit
done
