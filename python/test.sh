#!/usr/bin/env bash
# Builds the wheel, with the program if `make build` made it, installs it into a fresh virtual environment and tests it there:  python/test.sh PYTHON VENV
#
# The losses and loaders need PyTorch, which is large: it is used where PYTHON has it, or where Debian's package can be
# installed (PyTorch 1.13 for CPUs, 150 MB). Their tests are skipped without it, and those of `transformers` without that.
set -euo pipefail
cd "$(dirname "$0")"
python=$1 venv=$(realpath -m "../$2")

if ! "$python" -c 'import torch' 2>/dev/null && [ -x /usr/bin/python3 ] && command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ] && ! /usr/bin/python3 -c 'import torch' 2>/dev/null; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-torch python3-venv; } >/dev/null 2>&1 ||
            echo "PyTorch could not be installed; its tests will be skipped"
    fi
    ! /usr/bin/python3 -c 'import torch, venv' 2>/dev/null || python=/usr/bin/python3
fi

# The program travels in the wheel, and `pip install` puts it beside the interpreter.
rm -rf logitcask.data
if [ -x ../target/release/logitcask ]; then
    install -D ../target/release/logitcask logitcask.data/scripts/logitcask
fi

rm -rf "$venv"
"$python" -m venv --system-site-packages "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
# The newest pyarrow for the NumPy that is there.
newest=$("$venv/bin/python" -c 'import numpy; print("pyarrow" if numpy.__version__ >= "2" else "pyarrow<19")' 2>/dev/null || echo pyarrow)
pip 'maturin>=1.9,<2' pytest mypy polars "$newest" numpy
"$venv/bin/maturin" build --quiet --release --locked --out dist --interpreter "$venv/bin/python"
wheel=$(ls -t dist/logitcask-*.whl | head -n 1)
echo "$(du -k "$wheel" | cut -f1) KiB: $(basename "$wheel")"
pip --force-reinstall --no-deps "$wheel"

"$venv/bin/python" -m mypy --config-file pyproject.toml
"$venv/bin/python" -m mypy.stubtest logitcask._core --concise
"$venv/bin/python" -m pytest -p no:cacheprovider -rs tests
