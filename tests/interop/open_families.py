"""Exports a checkpoint of every family with logitcask, opens it with transformers, and compares what it computes.

For each folder of FAMILIES (data/golden/families, or another set with the same files): export config.json and weights, open the export
with AutoModelForCausalLM in float32, and compare log sum exp(logits) and the eight largest logits at every position of the sequences
in expected.json, to ten times the noise stated there. Prints a line for each folder.

Needs torch, transformers. Usage: open_families.py LOGITCASK FAMILIES
Exit status: 0 all well; 1 an export differs or does not open; 2 wrong usage.
"""
import json, os, shutil, subprocess, sys, tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch, transformers
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# What transformers itself leaves out or makes anew.
HARMLESS = ("inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")


def tokenizer_json(classes):
    """An export has a tokenizer, and these checkpoints have none."""
    vocab = {f"t{i}": i for i in range(classes)}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"}
    parts = dict.fromkeys(["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"])
    return json.dumps({"version": "1.0", **parts, "added_tokens": [], "model": model})


def export(program, source, into):
    copy = into / "source"
    shutil.copytree(source, copy)
    config = json.loads((copy / "config.json").read_text())
    classes = config.get("text_config", config)["vocab_size"]
    (copy / "tokenizer.json").write_text(tokenizer_json(classes))
    done = subprocess.run([program, "export", copy, "--out", into / "export"], capture_output=True, text=True)
    if done.returncode: raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return into / "export"


def largest_difference(folder, expected):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, attn_implementation="eager")
    for kind, names in info.items():
        names = [name for name in names if not str(name).endswith(HARMLESS)]
        if names: raise RuntimeError(f"{kind}: {names[:3]}")
    worst = 0.0
    for sequence in expected["sequences"]:
        with torch.no_grad(): logits = model(torch.tensor([sequence["ids"]])).logits[0].double()
        worst = max(worst, (logits.logsumexp(-1) - torch.tensor(sequence["log_z"])).abs().max().item())
        top = torch.tensor(sequence["top_ids"])
        worst = max(worst, (logits.gather(-1, top) - torch.tensor(sequence["top_logits"])).abs().max().item())
    return worst


def main():
    if len(sys.argv) != 3 or not Path(sys.argv[2]).is_dir():
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    program, failed = str(Path(sys.argv[1]).resolve()), 0
    for source in sorted(path for path in Path(sys.argv[2]).iterdir() if (path / "expected.json").is_file()):
        expected = json.loads((source / "expected.json").read_text())
        noise = expected["noise"]["max_abs_f32_vs_f64"]
        with tempfile.TemporaryDirectory() as into:
            try:
                worst = largest_difference(export(program, source, Path(into)), expected)
                verdict = "" if worst <= 10 * noise else "DIFFERS"
                print(f"{source.name:16} largest difference {worst:.1e}, noise {noise:.1e} {verdict}", flush=True)
            except Exception as e:  # whatever goes wrong is the finding
                verdict = f"{type(e).__name__}: {e}"
                print(f"{source.name:16} {verdict[:300]}", flush=True)
        failed += verdict != ""
    print(f"transformers {transformers.__version__}: {failed} of the exports differ or do not open")
    sys.exit(1 if failed else 0)


main()
