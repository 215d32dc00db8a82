#!/bin/sh
# Makes data/demo anew: stories15M writes the corpus, the tokenizer is trained on its train split, and our own trainer
# trains the demo teacher on hard labels until validation perplexity stops falling.
set -eu
bin=target/release/logitcask
demo=data/demo
mkdir -p $demo/teacher
rm -f $demo/corpus.parquet $demo/teacher/tokenizer.json
$bin generate data/models/stories15M/stories15M.bin --count 3800 --seed 20261122 --top-p 0.95 --finished-only \
    --device cpu --out $demo/corpus.parquet
$bin tokenizer $demo/corpus.parquet --split-column split --size 2048 --out $demo/teacher/tokenizer.json
$bin train data/recipes/demo-teacher.toml --device cpu
cp data/runs/demo-teacher/student/model/* $demo/teacher/
sha256sum $demo/corpus.parquet $demo/teacher/*
