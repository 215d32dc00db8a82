#!/bin/sh
# Caches and trains the same short recipe on the CPU and on a wgpu device and prints both. DEVICE=wgpu takes any adapter
# (a software one too, slowly); the default wgpu:0 is the first real GPU. BIN names another binary, one carried to a
# machine without Rust, say.
set -eu
bin=${BIN:-target/release/logitcask}
gpu=${DEVICE:-wgpu:0}
[ "$gpu" = auto ] && gpu=wgpu:0
recipe=data/recipes/gpu-check.toml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -f data/models/stories15M/stories15M.bin ] || { echo "gpu-check: \`make fetch-stories15m\` first" >&2; exit 1; }

number() { sed -n "s/.*\"$2\": *\([-0-9.e]*\).*/\1/p" "$1" | head -n 1; }
text() { sed -n "s/.*\"$2\": *\"\(.*\)\".*/\1/p" "$1" | head -n 1; }
for device in cpu "$gpu"; do
    name=$(echo "$device" | tr -d ':')
    sed "s#^\[cache\]#[cache]\npath = \"$work/$name\"#" $recipe >"$work/$name.toml"
    "$bin" cache "$work/$name.toml" --device "$device" >/dev/null
    "$bin" train "$work/$name.toml" --device "$device" --out "$work/$name-run" >/dev/null
    "$bin" inspect "$work/$name" --json >"$work/$name.json"
done

printf '\n%-34s %10s %9s %9s %9s %11s %11s %11s\n' device positions/s forward select write 'kept mass' 'last loss' perplexity
for device in cpu "$gpu"; do
    name=$(echo "$device" | tr -d ':')
    run="$work/$name/_runs.jsonl"
    awk -v d="$(text "$run" device)" -v s="$(number "$run" seconds)" -v p="$(number "$run" positions)" \
        -v f="$(number "$run" forward)" -v e="$(number "$run" select)" -v w="$(number "$run" write)" \
        -v k="$(number "$work/$name.json" kept_mass)" -v x="$(number "$work/$name-run/summary.json" perplexity)" \
        -v l="$(tail -n 1 "$work/$name-run/student/metrics.jsonl" | sed 's/.*"loss":\([-0-9.e]*\).*/\1/')" \
        'BEGIN { printf "%-34s %10.0f %8.0f%% %8.0f%% %8.0f%% %11.5f %11.5f %11.4f\n", d, p / s, 100 * f / s, 100 * e / s, 100 * w / s, k, l, x }'
done
echo "(busy shares of the wall time; the stages overlap)"
