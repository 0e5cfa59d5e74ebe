#!/usr/bin/env bash
# Finds out which Debian packages are missing; installs them when root, else names them.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }
have_softhsm() {
  [ -n "${SOFTHSM2_MODULE:-}" ] && return 0
  local f
  for f in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so \
           /usr/lib64/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so; do
    [ -e "$f" ] && return 0
  done
  return 1
}
have_postgres() { have postgres && have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

missing=()
have gcc || missing+=(gcc libc6-dev)
have openssl || missing+=(openssl)
have curl || missing+=(curl)
have_softhsm || missing+=(softhsm2)
have_postgres || missing+=(postgresql)
if [ "${1:-}" = gen ]; then have protoc || missing+=(protobuf-compiler); fi
required=${#missing[@]}
if [ "${1:-}" = test ]; then # other implementations, which must agree with ours
  have certtool && have ocsptool || missing+=(gnutls-bin)
  have vfychain && have crlutil && have certutil || missing+=(libnss3-tools)
  have java && have keytool && have javac || missing+=(default-jdk-headless)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ] || ! have apt-get; then
  echo "signet or its tests need packages that are not installed: ${missing[*]}" >&2
  echo "install them, for example:  sudo apt-get install ${missing[*]}" >&2
  # Without the other implementations their tests say that they are skipped; in CI they fail.
  [ "$required" -eq 0 ] && [ -z "${CI:-}" ] && exit 0
  exit 1
fi

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
conf=/etc/postgresql-common/createcluster.conf
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
  # signet runs a private cluster of its own: keep the package from making and
  # starting one on port 5432, and leave the machine's setting as it was.
  apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
  if [ -f "$conf" ]; then
    saved=$(mktemp) && cp -p "$conf" "$saved"
    trap 'cp -p "$saved" "$conf"; rm -f "$saved"' EXIT
    sed -i -E 's/^#?[[:space:]]*create_main_cluster.*/create_main_cluster = false/' "$conf"
  fi
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
