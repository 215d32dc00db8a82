#!/bin/sh
# Opens a plain cache with the readers people use and, where one was trained, a student with transformers; in virtual
# environments of their own under target/. Usage: run.sh CACHE [STUDENT]
set -eu
cache=$1 model=${2:-}
venv=target/interop-venv
if [ ! -x $venv/bin/python ]; then
    python3 -m venv $venv
    $venv/bin/pip install --quiet pyarrow pandas polars duckdb datasets
fi
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
HF_HOME=$home $venv/bin/python tests/interop/open_cache.py "$cache"
if [ -z "$model" ]; then
    echo "no student was named: none is opened with transformers"
    exit 0
fi
if [ ! -f "$model/config.json" ]; then
    echo "no student in $model yet (make train-student trains one): not opened with transformers"
    exit 0
fi
$venv/bin/pip install --quiet torch transformers safetensors
$venv/bin/python tests/interop/open_student.py "$model" --text "Once upon a time there was a little girl."
