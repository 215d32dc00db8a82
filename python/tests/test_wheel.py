"""The program that the wheel carries."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import fill, samples, writer

PROGRAM = Path(sys.executable).parent / "logitcask"


@pytest.mark.skipif(not PROGRAM.exists(), reason="the wheel was built without the program")
def test_the_installed_program_checks_a_cache_that_python_wrote(tmp_path: Path, tokenizer: Path) -> None:
    fill(writer(tmp_path / "c", tokenizer, {"train": 20}), {"train": samples(20)})
    done = subprocess.run([PROGRAM, "verify", tmp_path / "c"], capture_output=True, text=True)
    assert done.returncode == 0 and "intact" in done.stdout, done.stdout + done.stderr
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True)
    assert done.stdout.split()[1] == version("logitcask")
