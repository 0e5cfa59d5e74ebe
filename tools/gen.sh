#!/bin/bash
# Regenerates what is generated and committed: the REST models from each
# dialect's openapi.yaml (and extensions.yaml) and the gRPC code from api/signetv1/*.proto.
# Needs protoc (Debian: protobuf-compiler); all other tools are pinned in
# tools/go.mod. Runs in the repository that holds it, so verify.sh can run it in
# a copy.
set -euo pipefail
cd "$(dirname "$0")/.."

tool() { go tool -modfile=tools/go.mod "$@"; }
command -v protoc >/dev/null || { echo "gen: protoc is missing (Debian: apt-get install protobuf-compiler)" >&2; exit 1; }

for dialect in powerauth ast; do
  dir=api/$dialect/internal/spec
  tool oapi-codegen -config "$dir/oapi-codegen.yaml" -o "$dir/models.gen.go" "$dir/openapi.yaml"
  if [ -f "$dir/extensions.yaml" ]; then
    tool oapi-codegen -config "$dir/oapi-codegen.extensions.yaml" -o "$dir/extensions.gen.go" "$dir/extensions.yaml"
  fi
done

# protoc wants plugins as files; go tool -n names the built binary in the cache.
protoc -I api \
  --plugin=protoc-gen-go="$(tool -n protoc-gen-go)" --go_out=api --go_opt=paths=source_relative \
  --plugin=protoc-gen-go-grpc="$(tool -n protoc-gen-go-grpc)" --go-grpc_out=api --go-grpc_opt=paths=source_relative \
  api/signetv1/*.proto
