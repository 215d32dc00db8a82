#!/bin/sh
# The same work in PyTorch and transformers, in a virtual environment of its own under target/; prints tables beside those of
# `make bench-step` and `make bench-select`. Needs Python and its package index (some gigabytes).
set -eu
bin=${BIN:-target/release/logitcask}
venv=target/peers-venv
if [ ! -x $venv/bin/python ]; then
    python3 -m venv $venv
    $venv/bin/pip install --quiet torch==2.9.0 transformers safetensors numpy pyarrow
fi
python=$venv/bin/python
echo "| | classes | forward | loss | backward | optimizer | step, ms | peak, MiB |"
echo "|---|---|---|---|---|---|---|---|"
for classes in 2048 32000; do
    $python benches/peers/step.py $classes 2>/dev/null
done
echo
$python benches/peers/selection.py
echo
# The cache that `make bench-reader` streams, left where it can be found.
mkdir -p target/peers-reader
LOGITCASK_BENCH_FOLDER=target/peers-reader cargo bench --workspace ${FEATURES:-} --bench reader 2>/dev/null | grep -E "order|plain"
$python benches/peers/reader.py target/peers-reader/reader-plain
echo
[ -d target/peers-model ] || "$bin" export data/models/stories15M/stories15M.bin --out target/peers-model >/dev/null
recipe=$(mktemp)
sed 's#^\[dataset\]#[dataset]\nmax_documents = 240#; s#^\[cache\]#[cache]\npath = "target/peers-cache"#' data/recipes/stories15m.toml >"$recipe"
"$bin" cache "$recipe" --device cpu 2>/dev/null
$python benches/peers/forward.py target/peers-model "$(ls target/peers-cache/data/train-*.parquet | head -n 1)" 2>/dev/null
rm -f "$recipe"
