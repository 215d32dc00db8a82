#!/bin/sh
# Opens a plain cache with the readers people use and, where one was trained, a student with transformers; then has
# caches written in Python alone read by the program. In a virtual environment of its own under target/.
# Usage: run.sh CACHE [STUDENT]
set -eu
cache=$1 model=${2:-}
venv=target/interop-venv logitcask=target/release/logitcask
[ -x $venv/bin/python ] || python3 -m venv $venv
$venv/bin/python -m pip install --quiet pyarrow pandas polars duckdb datasets blake3
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HF_HOME="$home/huggingface" PYTHONDONTWRITEBYTECODE=1
$venv/bin/python tests/interop/open_cache.py "$cache"
$venv/bin/python tests/interop/read_card.py "$cache"

# The ids that Python computes, of the program's cache and of its own, are those that the program shows.
$venv/bin/python tests/interop/check_pins.py "$cache" > "$home/written"
$venv/bin/python tests/interop/write_cache.py "$home" >> "$home/written"
while read -r written id; do
    $logitcask verify "$written"
    $logitcask inspect "$written" | grep "cache id  *$id\$"
done < "$home/written"

$logitcask inspect "$home/log_probs" --sample 0 --split val --positions 4
$logitcask export "$home/log_probs" --layout packed --out "$home/packed"
$logitcask verify "$home/packed"

# What is written for DistillKit is, by a reader in Python, what the cache holds.
$logitcask export "$home/all" --to distillkit --out "$home/distillkit"
$venv/bin/python tests/interop/read_distillkit.py "$home/all" "$home/distillkit"

# The cache without log_z and atoms trains a student at T = 1; another temperature is refused before anything is written.
sed "s|FOLDER|$home|" tests/interop/log_probs.toml > "$home/log_probs.toml"
$logitcask train "$home/log_probs.toml" --device cpu --out "$home/run"
sed "s|^alpha = .*|&\ntemperature = 2|" "$home/log_probs.toml" > "$home/hot.toml"
if $logitcask train "$home/hot.toml" --device cpu --out "$home/hot" 2> "$home/refused"; then
    echo "a cache that is for T = 1 alone was trained from at T = 2" >&2
    exit 1
fi
grep "temperature = 2 was given, but it must be 1 over this cache" "$home/refused"
[ ! -e "$home/hot" ]

if [ -z "$model" ]; then
    echo "no student was named: none is opened with transformers"
    exit 0
fi
if [ ! -f "$model/config.json" ]; then
    echo "no student in $model yet (make train-student trains one): not opened with transformers"
    exit 0
fi
$venv/bin/python -m pip install --quiet torch transformers safetensors
$venv/bin/python tests/interop/open_student.py "$model" --text "Once upon a time there was a little girl."
$venv/bin/python tests/interop/open_families.py $logitcask data/golden/families
