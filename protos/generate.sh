#!/usr/bin/env bash
# Generates the Python stubs into the folder given, or into the checkout.
# grpcio-tools is pinned to the oldest supported version: newer stubs refuse older protobuf runtimes.
# It has a virtual environment of its own, because it fights with the newer protobuf of the others.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-.}
venv=${STUBS_VENV:-.venv-stubs}
if [ ! -x "$venv/bin/protoc-gen-mypy" ]; then
  "${PYTHON:-python3}" -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check \
    "grpcio-tools==1.71.2" "mypy-protobuf==3.6.0" "setuptools<81"
fi
PATH="$(cd "$venv/bin" && pwd):$PATH" "$venv/bin/python" -m grpc_tools.protoc \
  --proto_path=protos --python_out="$out" --grpc_python_out="$out" \
  --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" protos/saerec_ray/v1/*.proto
