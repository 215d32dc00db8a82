#!/bin/sh
# Compares a GPU with the CPU: fills out/table.md, beside out/log with all that was printed. A step that fails or takes
# longer than its limit says so in the table, and the others go on. About five minutes; needs nothing but what is here, and
# compares with PyTorch where Python has it.
#   DEVICE=wgpu:0  the device      SMALL=1  a try of a minute      OUT=out  where the results go
set -u
cd "$(dirname "$0")" || exit 1
here=$PWD
device=${DEVICE:-wgpu:0}
out=${OUT:-$here/out}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
table=$out/table.md
log=$out/log
: >"$log"
short() { if [ -n "${SMALL:-}" ]; then echo "$1"; else echo "$2"; fi; }
row() { echo "| $* |" >>"$table"; }
heading() { printf '\n%s\n\n' "$1" >>"$table"; }

# limited SECONDS NAME COMMAND...: its output goes to $work/NAME.out and to the log; a failure is a row of the table.
limited() {
    seconds=$1; name=$2; shift 2
    if command -v timeout >/dev/null; then set -- timeout "$seconds" "$@"; fi
    echo "=== $name: $*" >>"$log"
    "$@" >"$work/$name.out" 2>&1; status=$?
    cat "$work/$name.out" >>"$log"
    [ $status -eq 0 ] && return 0
    why=$(grep -iE 'error|panick' "$work/$name.out" | head -n 1 | tr '|' ' ' | cut -c1-150)
    [ $status -eq 124 ] && why="not done after $seconds s"
    row "$name | failed (status $status): $why"
    return 1
}

# Vulkan's loader, and NVIDIA's driver where nothing says where it is.
if ! ldconfig -p 2>/dev/null | grep -q libvulkan.so.1; then
    LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; export LD_LIBRARY_PATH
fi
if [ -z "${VK_DRIVER_FILES:-}" ] && ! ls /usr/share/vulkan/icd.d/*nvidia* /etc/vulkan/icd.d/*nvidia* >/dev/null 2>&1; then
    found=$(ls /usr/local/nvidia/share/vulkan/icd.d/*.json 2>/dev/null | head -n 1)
    if [ -z "$found" ] && ldconfig -p 2>/dev/null | grep -q libGLX_nvidia.so.0; then
        found=$work/nvidia.json
        echo '{"file_format_version": "1.0.1", "ICD": {"library_path": "libGLX_nvidia.so.0", "api_version": "1.3.0"}}' >"$found"
    fi
    [ -z "$found" ] || { VK_DRIVER_FILES=$found; export VK_DRIVER_FILES; }
fi
XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}; export XDG_RUNTIME_DIR

bin=$work/logitcask
xz -dc logitcask.xz >"$bin" && chmod +x "$bin" || { echo "gpu-check: cannot unpack the program" >&2; exit 1; }

driver=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
{
    echo "# $("$bin" --version) on $device, $(date -u +%Y-%m-%d)"
    echo
    echo "Driver: ${driver:-unknown (no nvidia-smi)}. CPU: $(getconf _NPROCESSORS_ONLN 2>/dev/null) cores, $(uname -sm)."
} >"$table"

# recipe NAME MORE...: one over recipe.toml, its cache in $work/NAME.
recipe() {
    name=$1; shift
    {
        echo "extends = \"$here/recipe.toml\""
        printf '[cache]\npath = "%s"\n' "$work/$name"
        for line in "$@"; do echo "$line"; done
    } >"$work/$name.toml"
}

number() { sed -n "$1" "$2" | tail -n 1; }

# cache LIMIT NAME DEVICE: stage 1, and its row.
cache() {
    limited "$1" "cache-$2" "$bin" cache "$work/$2.toml" --device "$3" || return 1
    told=$work/cache-$2.out
    row "$2 | $(number 's#^caching: .*, \([0-9.]*\)/s$#\1#p' "$told")" \
        "| $(number 's/^busy: forward \([0-9]*\) %.*/\1/p' "$told")" \
        "| $(number 's/^busy: .*selection \([0-9]*\) %.*/\1/p' "$told")" \
        "| $(number 's/^busy: .*writing \([0-9]*\) %.*/\1/p' "$told")" \
        "| $(number 's/.*mean kept mass \([0-9.]*\)$/\1/p' "$told")" \
        "| $(number 's/.*error at most \([0-9.e-]*\) nats.*/\1/p' "$told")"
}

# train LIMIT NAME DEVICE: stage 2 from the cache of that name, and its row.
train() {
    limited "$1" "train-$2" "$bin" train "$work/$2.toml" --device "$3" --out "$work/$2-run" || return 1
    told=$work/train-$2.out
    row "$2 | $(number 's#^student: .* steps in .*, \([0-9.]*\)/s$#\1#p' "$told")" \
        "| $(number 's/^student  *\([0-9.]*\) .*/\1/p' "$told")"
}

heading "## The device, and what selection costs on it"
row "what | result"; row "---|---"
both="cpu $device"; [ "$device" != cpu ] || both=cpu
for on in $both; do
    # A model's forward alone is the device's: a CPU runs a batch on each core, which stage 1 below shows.
    model=; [ "$on" != "$device" ] || model="--model teacher"
    # shellcheck disable=SC2086
    limited 120 "measure-$on" "$bin" measure-device --device "$on" --classes "$(short 32000 32000,131072)" $model &&
        grep '^|' "$work/measure-$on.out" >>"$table"
done

heading "## Stage 1"
row "run | positions/s | forward busy, % | selection busy, % | writing busy, % | kept mass | log Z worst"; row "---|---|---|---|---|---|---"
# Enough that the time it takes to compile kernels is a small part.
documents=$(short 20 3000)
recipe cpu-f32 '[dataset]' "max_documents = $(short 20 200)" '[teacher]' 'batch_tokens = 512'
cache 120 cpu-f32 cpu
for precision in f32 f16 bf16; do
    [ "$device" != cpu ] || [ $precision = f32 ] || continue
    recipe "device-$precision" '[dataset]' "max_documents = $documents" '[teacher]' "precision = \"$precision\""
    cache 180 "device-$precision" "$device"
done

heading "## Rows of the CPU's cache, asked of the device again"
row "what | result"; row "---|---"
if limited 90 compare "$bin" verify "$work/cpu-f32" --live "$(short 4 32)" --recipe "$work/cpu-f32.toml" --device "$device"; then
    row "rows compared | $(grep -i live "$work/compare.out" | tail -n 1 | tr '|' ' ')"
fi

heading "## Stage 2"
row "run | steps/s | perplexity"; row "---|---|---"
steps=$(short 3 60)
for name in cpu-f32 device-f32; do
    printf '[train]\nsteps = %s\n' "$steps" >>"$work/$name.toml"
done
train 120 cpu-f32 cpu
train 120 device-f32 "$device"

heading "## PyTorch on the same machine"
if python3 -c 'import torch, transformers' 2>/dev/null; then
    row "what | where | result"; row "---|---|---"
    limited 120 peer-copy python3 peer.py copy && grep '^|' "$work/peer-copy.out" >>"$table"
    limited 120 peer-teacher python3 peer.py rates teacher "$here/teacher" && grep '^|' "$work/peer-teacher.out" >>"$table"
    if limited 120 peer-make python3 peer.py make "$work/llama" ${SMALL:+small}; then
        cp teacher/tokenizer.json "$work/llama/"
        limited 120 peer-llama python3 peer.py rates llama "$work/llama" && grep '^|' "$work/peer-llama.out" >>"$table"
        heading "## Stage 1 of a model of 1.1 billion random weights"
        row "run | positions/s | forward busy, % | selection busy, % | writing busy, % | kept mass | log Z worst"; row "---|---|---|---|---|---|---"
        for precision in bf16 f16 f32; do
            [ "$device" != cpu ] || [ $precision = f32 ] || continue
            recipe "llama-$precision" '[dataset]' "max_documents = $(short 5 400)" \
                '[teacher]' "model = \"$work/llama\"" "precision = \"$precision\"" '[eval]' 'split = "train"'
            cache 120 "llama-$precision" "$device"
        done
    fi
else
    echo "Python has no torch and transformers here: nothing is compared." >>"$table"
fi
cat "$table"
