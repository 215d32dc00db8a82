#!/bin/sh
# Renders conversations with the chat templates that TRL ships, by transformers and jinja2, into a JSON file, with which
# crates/data compares its own. In a virtual environment of its own under target/. Does nothing if the file exists already.
# Usage: templates.sh OUT
set -eu
here=$(dirname "$0")
out=$1 venv=$here/../../target/interop-venv
[ ! "$out" -nt "$here/render_templates.py" ] || exit 0
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check --retries 1 --timeout 10"
$pip install transformers jinja2
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
# Only the templates: TRL itself needs PyTorch.
$pip download --no-deps --dest "$home" trl
mkdir -p "$(dirname "$out")"
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/render_templates.py" "$home"/trl-*.whl "$home/out.json"
mv "$home/out.json" "$out"
