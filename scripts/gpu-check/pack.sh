#!/bin/sh
# Packs all that a comparison of a GPU with the CPU needs into one folder, .gpu, below 60 MB: it is copied to a machine with
# a GPU and neither Rust nor network, and `sh run.sh` in it does the rest. Called by `make gpu-check`.
#   BIN       the program, built with wgpu        MODEL     the teacher, packed in f16
#   OUT       the folder                          PACKAGES  of the Vulkan loader, for machines that lack it
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
bin=${BIN:-$repository/target/release/logitcask}
model=${MODEL:-$repository/data/models/stories15M/stories15M.bin}
out=${OUT:-$repository/.gpu}
packages=${PACKAGES-libvulkan1 libegl1 libglvnd0}
most_kib=$((60 * 1024))

[ -x "$bin" ] || { echo "gpu-check: there is no $bin; \`make build GPU=1\` first" >&2; exit 1; }
[ -e "$model" ] || { echo "gpu-check: there is no $model; \`make fetch-stories15m\` first" >&2; exit 1; }
rm -rf "$out"
mkdir -p "$out/lib"

cp "$bin" "$out/logitcask"
strip "$out/logitcask" 2>/dev/null || true
"$bin" export "$model" --precision f16 --out "$out/teacher" >/dev/null
cp "$repository/data/demo/corpus.parquet" "$out/"
sed 's#^path = .*corpus.*#path = "corpus.parquet"#; s#^model = .*#model = "teacher"#' \
    "$repository/data/recipes/gpu-check.toml" >"$out/recipe.toml"
cp "$here/run.sh" "$here/peer.py" "$out/"
xz -T0 "$out/logitcask"

# The loader's libraries alone, so that nothing need be installed there.
if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    work=$(mktemp -d)
    for package in $packages; do
        (cd "$work" && apt-get download "$package" >/dev/null 2>&1) || echo "gpu-check: no package $package to be had" >&2
    done
    for file in "$work"/*.deb; do [ ! -e "$file" ] || dpkg -x "$file" "$work/root"; done
    find "$work" -name 'lib*.so*' -exec cp -P {} "$out/lib/" \;
    rm -rf "$work"
fi

size=$(du -sk "$out" | cut -f1)
echo "$out: $((size / 1024)) MB; copy it to the machine and run \`sh run.sh\` there (DEVICE=wgpu:0, SMALL=1 for a short try)"
[ "$size" -le "$most_kib" ] || { echo "gpu-check: that is more than 60 MB" >&2; exit 1; }
