#!/bin/sh
# Runs every recipe under data/recipes/methods on the demo's teacher for STEPS steps (default 150), with the labels alone and
# AdaKD's ablation beside them, and prints a table. METHODS="kd dkd" runs only some.
set -eu
bin=${BIN:-target/release/logitcask}
device=${DEVICE:-cpu}
steps=${STEPS:-150}
seed=${SEED:-0}
work=data/runs/methods-$steps-$seed
mkdir -p "$work"

# The same recipe with so many steps. $1: from, $2: to, $3: a line for its [loss] table.
shorten() {
    awk -v steps="$steps" -v line="${3:-}" '
        /^steps *=/ { next }
        { print }
        /^\[train\]/ { print "steps = " steps; seen = 1 }
        /^\[loss\]/ && line != "" { print line }
        END { if (!seen) print "\n[train]\nsteps = " steps }' "$1" >"$2"
}
number() { sed -n "/\"student\"/,/}/s/.*\"$2\": *\([-0-9.e]*\).*/\1/p" "$1" | head -n 1; }
metric() { sed -n "s/.*\"$2\":\([-0-9.e]*\).*/\1/p" "$1"; }

run() { # $1: name, $2: recipe
    out="$work/$1"
    if grep -q '^\[generations\]' "$2"; then
        "$bin" train "$2" --device "$device" --seed "$seed" --out "$out" >/dev/null
        for generation in "$out"/generation-*; do
            case $generation in *.cache | *.toml) ;; *) row "$1, ${generation##*/}" "$generation" ;; esac
        done
        return
    fi
    "$bin" cache "$2" --device "$device" >/dev/null
    "$bin" train "$2" --device "$device" --seed "$seed" --out "$out" >/dev/null
    row "$1" "$out"
}

row() { # $1: name, $2: folder of the run
    log="$2/student/metrics.jsonl"
    awk -v name="$1" -v p="$(number "$2/summary.json" perplexity)" -v k="$(number "$2/summary.json" kl_to_teacher)" \
        -v a="$(number "$2/summary.json" top1_agreement)" \
        -v first="$(metric "$log" temperature | head -n 1)" -v last="$(metric "$log" temperature | tail -n 1)" \
        -v counted="$(metric "$log" counted | tail -n 1)" -v read="$(metric "$log" read | tail -n 1)" 'BEGIN {
            t = first == "" ? "" : sprintf("%.2f to %.2f", first, last)
            printf "| %s | %.2f | %s | %s | %s | %s | %s |\n", name, p, k == "" ? "" : sprintf("%.3f", k),
                a == "" ? "" : sprintf("%.3f", a), t, counted == "" ? "" : sprintf("%.2f", counted),
                read == "" ? "" : sprintf("%.2f", read) }'
}

# The weaker of two teachers.
if [ ! -f data/runs/demo/student/model/model.safetensors ]; then
    "$bin" cache data/recipes/demo.toml --device "$device" >/dev/null
    "$bin" train data/recipes/demo.toml --device "$device" >/dev/null
fi
echo "| method | perplexity | KL to teacher | top-1 agreement | T | counted | read |"
echo "|---|---|---|---|---|---|---|"
if [ -z "${METHODS:-}" ]; then
    shorten data/recipes/demo.toml "$work/labels.toml"
    sed -i 's/^alpha = .*/alpha = 0.0/' "$work/labels.toml"
    run "labels alone" "$work/labels.toml"
    shorten data/recipes/demo.toml "$work/forward-kl.toml"
    run "forward KL, T = 1" "$work/forward-kl.toml"
fi
for recipe in data/recipes/methods/*.toml; do
    name=$(basename "$recipe" .toml)
    case " ${METHODS:-$name} " in *" $name "*) ;; *) continue ;; esac
    shorten "$recipe" "$work/$name.toml"
    run "$name" "$work/$name.toml"
    if [ "$name" = adakd ]; then
        grep -vE '^(adapt|weigh)' "$work/adakd.toml" >"$work/adakd-neither.toml"
        run "adakd without IDTS and LATF" "$work/adakd-neither.toml"
        grep -v '^weigh' "$work/adakd.toml" >"$work/adakd-idts.toml"
        run "adakd, IDTS alone" "$work/adakd-idts.toml"
        grep -v '^adapt' "$work/adakd.toml" >"$work/adakd-latf.toml"
        run "adakd, LATF alone" "$work/adakd-latf.toml"
        sed 's/kind = "idts"/kind = "idts", inverted = true/' "$work/adakd-idts.toml" >"$work/adakd-inverted.toml"
        run "adakd, IDTS inverted" "$work/adakd-inverted.toml"
    fi
done
