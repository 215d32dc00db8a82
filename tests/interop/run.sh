#!/bin/sh
# Opens a trained student with transformers, in a virtual environment of its own under target/.
set -eu
model=$1
[ -f "$model/config.json" ] || { echo "interop: $model is not there; \`make train-student\` makes it" >&2; exit 1; }
venv=target/interop-venv
if [ ! -x $venv/bin/python ]; then
    python3 -m venv $venv
    $venv/bin/pip install --quiet torch transformers safetensors
fi
exec $venv/bin/python tests/interop/open_student.py "$model" --text "Once upon a time there was a little girl."
