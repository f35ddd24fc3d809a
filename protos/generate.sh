#!/usr/bin/env bash
# Generates the Python stubs into the folder given, or into the checkout.
# grpcio-tools is pinned to the oldest supported version: newer stubs refuse older protobuf runtimes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-.}
venv=${STUBS_VENV:-.venv-stubs}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "grpcio-tools==1.71.2" "mypy-protobuf==3.6.0" "setuptools<81"
fi
PATH="$PWD/$venv/bin:$venv/bin:$PATH" "$venv/bin/python" -m grpc_tools.protoc \
  --proto_path=protos --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" \
  --mypy_grpc_out="$out" protos/saerec_ray/v1/*.proto
