#!/usr/bin/env bash
# Regenerates all generated code and fails when it differs from what is committed.
# The protoc version in the header comment is ignored: plug-ins are pinned, protoc is the machine's.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/gen.sh
git diff --exit-code -I'^//[[:space:]]+.*protoc' -- '*.pb.go' '*.gen.go'
