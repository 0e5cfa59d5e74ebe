#!/bin/sh
# A whole ceremony to practise with, on a SoftHSM2 token that it makes:
#   ceremony.sh DIR PLAN [CEREMONY]
# DIR is new. PLAN is a plan whose first step is token_init (plans/root-issuer.yaml);
# its people are replaced by ones made here, whose key files stay in DIR/people.
# CEREMONY is the program (bin/ceremony). A real one differs in the token's
# configuration and in that each person brings their own key file.
set -eu
[ $# -ge 2 ] && [ $# -le 3 ] && [ -f "$2" ] || { echo "usage: $0 DIR PLAN [CEREMONY]" >&2; exit 2; }
ceremony=${3:-bin/ceremony}
umask 077
mkdir "$1"
dir=$(cd "$1" && pwd)
mkdir "$dir/tokens" "$dir/people"
for module in "${SOFTHSM2_MODULE:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so; do
	[ ! -f "$module" ] || break
done
[ -f "$module" ] || { echo "SoftHSM2 is missing: apt-get install softhsm2" >&2; exit 1; }
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n' "$dir/tokens" >"$dir/softhsm2.conf"
printf 'module: %s\nenv: {SOFTHSM2_CONF: %s}\n' "$module" "$dir/softhsm2.conf" >"$dir/hsm.yaml"

plan=$2
people=
sed '/^people:/q' "$plan" >"$dir/plan.yaml"
for who in $(sed -n '/^people:/,/^steps:/s/^ *- name: *//p' "$plan"); do
	"$ceremony" person new "$who" --out "$dir/people/$who.key" >>"$dir/plan.yaml"
	people="$people --person $dir/people/$who.key"
done
sed -n '/^steps:/,$p' "$plan" >>"$dir/plan.yaml"

# The names of people have no blanks in these plans, so that $people may be split.
"$ceremony" rehearse --plan "$dir/plan.yaml" --out "$dir/rehearsal"
"$ceremony" preflight --hsm "$dir/hsm.yaml" --plan "$dir/plan.yaml" $people
"$ceremony" run --hsm "$dir/hsm.yaml" --plan "$dir/plan.yaml" --out "$dir/out" $people
"$ceremony" transcript verify "$dir/out"
