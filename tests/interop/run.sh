#!/bin/sh
# Opens a plain cache with the readers people use and, where one was trained, a student with transformers; then has
# caches written in Python alone read by the program. In a virtual environment of its own under target/.
# Usage: run.sh CACHE [STUDENT]
set -eu
cache=$1 model=${2:-}
venv=target/interop-venv logitcask=target/release/logitcask
[ -x $venv/bin/python ] || python3 -m venv $venv
$venv/bin/pip install --quiet pyarrow pandas polars duckdb datasets blake3
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HF_HOME="$home/huggingface"
$venv/bin/python tests/interop/open_cache.py "$cache"
$venv/bin/python tests/interop/read_card.py "$cache"

$venv/bin/python tests/interop/write_cache.py "$home" > "$home/written"
while read -r written id; do
    $logitcask verify "$written"
    $logitcask inspect "$written" | grep "cache id  *$id\$"
    $logitcask inspect "$written" --sample 0 --split val > /dev/null
done < "$home/written"

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
