#!/bin/sh
# Makes a SoftHSM2 token by hand, laid out as package softhsm does:
#   create.sh DIR LABEL
# PINs are random, in DIR/pin and DIR/so-pin (0600). They reach softhsm2-util
# through a terminal that script(1) provides, never through an argument list.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 DIR LABEL" >&2; exit 2; }
command -v softhsm2-util >/dev/null || { echo "softhsm2-util is missing: apt-get install softhsm2" >&2; exit 1; }
umask 077
mkdir -p "$1"
dir=$(cd "$1" && pwd)
label=$2
[ ! -e "$dir/label" ] || { echo "$dir holds a token already" >&2; exit 1; }
case $label in *[!A-Za-z0-9._-]* | '') echo "the label may have A-Z a-z 0-9 . _ - only" >&2; exit 2 ;; esac

rm -rf "$dir/tokens"
mkdir "$dir/tokens"
cat >"$dir/softhsm2.conf" <<CONF
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
CONF
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
random >"$dir/pin"
random >"$dir/so-pin"

pins() { for f in so-pin so-pin pin pin; do cat "$dir/$f"; echo; done; }
SOFTHSM2_CONF=$dir/softhsm2.conf
export SOFTHSM2_CONF
pins | script -qec "softhsm2-util --init-token --free --label $label" /dev/null >/dev/null
softhsm2-util --show-slots | grep -q "Label: *$label *\$" || { echo "softhsm2-util made no token" >&2; exit 1; }
printf %s "$label" >"$dir/label" # last: the token is whole
echo "token $label in $dir; use it with SOFTHSM2_CONF=$dir/softhsm2.conf"
