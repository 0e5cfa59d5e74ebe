#!/usr/bin/env bash
# Runs the contract of hsm/hsmtest on every PKCS#11 module that Debian packages:
# SoftHSM2, NSS softokn, opencryptoki's software token, tpm2-pkcs11 on swtpm. Each
# gets a token of its own in a folder that is gone afterwards. Missing packages are
# installed when root, else named. docs/hsm-modules.md has the table.
#
#   tools/hsm-matrix.sh [softhsm] [nss] [opencryptoki] [tpm2]
set -euo pipefail
cd "$(dirname "$0")/.."
have() { command -v "$1" >/dev/null 2>&1; }
library() { find /usr/lib -name "$1" -print -quit 2>/dev/null; }

missing=()
have pkcs11-tool || missing+=(opensc)
have certutil || missing+=(libnss3-tools)
[ -n "$(library libsoftokn3.so)" ] || missing+=(libnss3)
have pkcsslotd || missing+=(opencryptoki)
[ -n "$(library libtpm2_pkcs11.so)" ] || missing+=(libtpm2-pkcs11-1)
have tpm2_ptool || missing+=(libtpm2-pkcs11-tools)
have swtpm || missing+=(swtpm)
have tpm2-abrmd || missing+=(tpm2-abrmd libtss2-tcti-tabrmd0)
have dbus-daemon || missing+=(dbus)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    echo "the matrix needs packages that are not installed: ${missing[*]}" >&2
    echo "install them, for example:  sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

dir=$(mktemp -d)
pids=()
finish() {
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT
go test -c -o "$dir/hsm.test" ./hsm
printf 12345678 >"$dir/pin"
export SIGNET_HSMTEST_PIN_FILE=$dir/pin SIGNET_HSMTEST_INIT_ARGS='' SIGNET_HSMTEST_ACCEPT='' SIGNET_HSMTEST_LABEL=signet
contract() { (cd hsm && "$dir/hsm.test" -test.run='^TestContractModule$' -test.v); }

softhsm() {
  mkdir "$dir/softhsm"
  printf 'directories.tokendir = %s\nlog.level = ERROR\n' "$dir/softhsm" >"$dir/softhsm2.conf"
  export SOFTHSM2_CONF=$dir/softhsm2.conf SIGNET_HSMTEST_MODULE
  SIGNET_HSMTEST_MODULE=$(library libsofthsm2.so)
  pkcs11-tool --module "$SIGNET_HSMTEST_MODULE" --init-token --slot-index 0 --label signet --so-pin 87654321
  pkcs11-tool --module "$SIGNET_HSMTEST_MODULE" --token-label signet --login --login-type so --so-pin 87654321 --init-pin --pin 12345678
  contract
}

# NSS wraps keys that are not extractable, so signet does not serve from it; its
# contract is of interest all the same.
nss() {
  mkdir "$dir/nss"
  certutil -N -d "sql:$dir/nss" -f "$dir/pin"
  export SIGNET_HSMTEST_MODULE SIGNET_HSMTEST_INIT_ARGS SIGNET_HSMTEST_ACCEPT=LOCAL SIGNET_HSMTEST_UNPROVEN=1
  SIGNET_HSMTEST_MODULE=$(library libsoftokn3.so)
  SIGNET_HSMTEST_INIT_ARGS="configdir='sql:$dir/nss' certPrefix='' keyPrefix='' secmod='secmod.db' flags='' dbTokenDescription='signet' dbSlotDescription='signet'"
  contract
}

# opencryptoki knows one place for its tokens only, so it gets a file system view
# of its own, which needs root. It crashes when it is unloaded and loaded again.
opencryptoki() {
  if [ "$(id -u)" != 0 ]; then
    echo "opencryptoki needs root: its paths are fixed" >&2
    return 1
  fi
  export SIGNET_HSMTEST_MODULE SIGNET_HSMTEST_HOLD=1 DIR=$dir
  SIGNET_HSMTEST_MODULE=$(library libopencryptoki.so)
  unshare --mount --ipc bash -euo pipefail -c '
    mount -t tmpfs tmpfs /run
    mkdir -p /run/lock/opencryptoki/swtok /run/tokens /run/log /var/log/opencryptoki
    cp -a /var/lib/opencryptoki/. /run/tokens/
    chgrp -R pkcs11 /run/lock/opencryptoki /run/log
    chmod -R 2770 /run/lock/opencryptoki /run/log
    mount --bind /run/tokens /var/lib/opencryptoki
    mount --bind /run/log /var/log/opencryptoki
    pkcsslotd
    trap "kill \$(cat /run/pkcsslotd.pid)" EXIT
    for _ in $(seq 50); do [ -S /run/pkcsslotd.socket ] && break; sleep 0.1; done
    tool="pkcs11-tool --module $SIGNET_HSMTEST_MODULE --slot 3"
    $tool --init-token --label signet --so-pin 87654321
    $tool --login --login-type so --so-pin 87654321 --init-pin --pin 12345678
    cd hsm && "$DIR/hsm.test" -test.run="^TestContractModule\$" -test.v'
}

tpm2() {
  mkdir "$dir/tpm" "$dir/tpm-store"
  local port=$((20000 + RANDOM % 20000))
  swtpm socket --tpm2 --tpmstate dir="$dir/tpm" --server type=tcp,port=$port --ctrl type=tcp,port=$((port + 1)) \
    --flags not-need-init,startup-clear >"$dir/swtpm.log" 2>&1 &
  pids+=($!)
  dbus-daemon --session --nofork --print-address=3 3>"$dir/bus" >/dev/null 2>&1 &
  pids+=($!)
  for _ in $(seq 50); do [ -s "$dir/bus" ] && break; sleep 0.1; done
  export DBUS_SESSION_BUS_ADDRESS
  DBUS_SESSION_BUS_ADDRESS=$(head -1 "$dir/bus")
  tpm2-abrmd --allow-root --session --tcti=swtpm:host=127.0.0.1,port=$port >"$dir/abrmd.log" 2>&1 &
  pids+=($!)
  sleep 2
  export TPM2TOOLS_TCTI=tabrmd:bus_type=session TPM2_PKCS11_TCTI=tabrmd:bus_type=session TPM2_PKCS11_STORE=$dir/tpm-store TPM2_PKCS11_LOG_LEVEL=0
  tpm2_ptool init --path "$dir/tpm-store" >/dev/null
  tpm2_ptool addtoken --pid 1 --sopin 87654321 --userpin 12345678 --label signet --path "$dir/tpm-store" >/dev/null
  export SIGNET_HSMTEST_MODULE SIGNET_HSMTEST_ACCEPT='ENCRYPT DECRYPT'
  SIGNET_HSMTEST_MODULE=$(library libtpm2_pkcs11.so)
  contract
}

[ $# -gt 0 ] || set -- softhsm nss opencryptoki tpm2
failed=()
for module in "$@"; do
  case $module in softhsm | nss | opencryptoki | tpm2) ;; *) echo "no such module: $module" >&2 && exit 2 ;; esac
  echo "== $module"
  if ("$module") >"$dir/$module.log" 2>&1; then
    grep -a 'lacks \[\|^--- \|^PASS' "$dir/$module.log"
  else
    tail -60 "$dir/$module.log"
    failed+=("$module")
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
