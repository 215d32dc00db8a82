#!/bin/sh
# Trains a recipe's student and control with several seeds from one cache and prints mean and spread of their figures.
set -eu
recipe=$1
shift
bin=target/release/logitcask
name=$(basename "$recipe" .toml)
number() { sed -n "/\"$2\"/,/}/s/.*\"$3\": *\([-0-9.e]*\).*/\1/p" "$1" | head -n 1; }
for seed in "$@"; do
    "$bin" train "$recipe" --control --seed "$seed" --out "data/runs/$name-seed-$seed" --device "${DEVICE:-auto}" ${REPLACE:+--replace} >/dev/null
done
printf '\n%-9s %-8s %11s %14s %16s\n' "" seed perplexity 'KL to teacher' 'top-1 agreement'
for who in student control; do
    for seed in "$@"; do
        summary="data/runs/$name-seed-$seed/summary.json"
        echo "$who $seed $(number "$summary" $who perplexity) $(number "$summary" $who kl_to_teacher) $(number "$summary" $who top1_agreement)"
    done | awk '
        { printf "%-9s %-8s %11.3f %14.4f %16.4f\n", $1, $2, $3, $4, $5
          n++; for (i = 3; i <= 5; i++) { sum[i] += $i; squares[i] += $i * $i } }
        END { for (i = 3; i <= 5; i++) { mean[i] = sum[i] / n; v = squares[i] / n - mean[i] ^ 2; spread[i] = n > 1 && v > 0 ? sqrt(v * n / (n - 1)) : 0 }
              printf "%-9s %-8s %11.3f %14.4f %16.4f\n%-9s %-8s %11.3f %14.4f %16.4f\n", "", "mean", mean[3], mean[4], mean[5], "", "std", spread[3], spread[4], spread[5] }'
done
