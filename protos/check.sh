#!/usr/bin/env bash
# Fails, showing the difference, when the committed stubs are not what the .proto files generate.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
protos/generate.sh "$fresh"
if ! diff -ru --exclude=__init__.py --exclude=__pycache__ saerec_ray/v1 "$fresh/saerec_ray/v1"; then
  echo "The committed stubs are stale: run make stubs and commit saerec_ray/v1." >&2
  exit 1
fi
echo "The committed stubs are what the .proto files generate."
