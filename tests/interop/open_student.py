"""Opens an exported model folder with transformers, as a user would, and says what is wrong if that fails.

Checks that no weight is missing, left over or misshapen; with a tokenizer.json prints the perplexity of --text; generates 40 greedy tokens;
with EXPECTED, a JSON file {"token_ids": [...], "log_z": [...]}, compares log sum exp(logits) at every position to 1e-3.

Needs torch, transformers. Usage: open_student.py FOLDER [EXPECTED] [--text TEXT]
Exit status: 0 all well; 1 the folder does not open, a weight is wrong, or log_z differs; 2 wrong usage or an unreadable EXPECTED.
"""
import argparse, json, math, os, sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-3
NEW_TOKENS = 40


def stop(status, message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def read_expected(path):
    try:
        value = json.loads(path.read_text())
        ids, log_z = [int(i) for i in value["token_ids"]], [float(z) for z in value["log_z"]]
    except (OSError, ValueError, TypeError, KeyError) as e:
        stop(2, f'{path}: expected {{"token_ids": [...], "log_z": [...]}}, got {type(e).__name__}: {e}')
    if not ids or len(ids) != len(log_z): stop(2, f"{path}: expected one log_z per token id, got {len(ids)} ids and {len(log_z)} values")
    return ids, log_z


def open_model(folder):
    if not (folder / "config.json").is_file(): stop(1, f"{folder}: no config.json; give the folder an export wrote")
    try:
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except Exception as e:  # whatever transformers raises is the finding
        stop(1, f"{folder}: transformers does not open it: {type(e).__name__}: {e}")
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names and kind != "error_msgs"}
    if info.get("error_msgs"): wrong["error_msgs"] = info["error_msgs"]
    if wrong: stop(1, f"{folder}: weights do not fit the config: " + "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items()))
    bad = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if bad: stop(1, f"{folder}: not finite: {', '.join(bad)}")
    return model.eval()


def open_tokenizer(folder):
    if not (folder / "tokenizer.json").is_file(): return None
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as e:  # as above
        stop(1, f"{folder}: transformers does not open tokenizer.json: {type(e).__name__}: {e}")


def logits(model, ids):
    vocab, longest = model.config.vocab_size, model.config.max_position_embeddings
    if max(ids) >= vocab or min(ids) < 0: stop(1, f"token ids {min(ids)} to {max(ids)} do not fit the model's vocabulary of {vocab}")
    if len(ids) > longest: stop(1, f"{len(ids)} tokens do not fit the model's {longest} positions")
    return model(torch.tensor([ids])).logits[0].double()


def print_perplexity(model, tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    if len(ids) < 2: stop(2, f"--text has {len(ids)} tokens; perplexity needs 2")
    nll = torch.nn.functional.cross_entropy(logits(model, ids)[:-1], torch.tensor(ids[1:]))
    print(f"perplexity {math.exp(nll):.4f} over {len(ids) - 1} tokens")
    return ids


def print_greedy(model, tokenizer, ids):
    longest = model.config.max_position_embeddings
    ids = ids[:max(1, longest - NEW_TOKENS)]  # a prompt that fills the positions would leave nothing to generate
    prompt, count = torch.tensor([ids]), min(NEW_TOKENS, longest - len(ids))
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count, min_new_tokens=count, pad_token_id=0)
    new = out[0, len(ids):].tolist()
    print(f"greedy {len(new)} tokens:", tokenizer.decode(new) if tokenizer else new)


def compare(model, ids, want):
    got = logits(model, ids).logsumexp(-1).tolist()
    at = max(range(len(ids)), key=lambda i: abs(got[i] - want[i]) if math.isfinite(got[i]) else math.inf)
    if not abs(got[at] - want[at]) <= TOLERANCE:
        stop(1, f"log_z differs most at position {at}: expected {want[at]:.6f}, got {got[at]:.6f}, tolerance {TOLERANCE}")
    print(f"log_z agrees at {len(ids)} positions, largest difference {abs(got[at] - want[at]):.2e}")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("expected", type=Path, nargs="?", help='JSON file {"token_ids": [...], "log_z": [...]}')
    parser.add_argument("--text", help="print the perplexity of this text and continue it; needs tokenizer.json")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    ids, want = read_expected(args.expected) if args.expected else (None, None)
    model, tokenizer = open_model(args.folder), open_tokenizer(args.folder)
    print(f"opened {args.folder}: {model.config.model_type}, {sum(p.numel() for p in model.parameters())} parameters")
    if args.text is not None and tokenizer is None: stop(2, f"{args.folder}: --text needs tokenizer.json, and there is none")
    prompt = print_perplexity(model, tokenizer, args.text) if args.text is not None else ids
    if ids: compare(model, ids, want)
    print_greedy(model, tokenizer, prompt if prompt else [model.config.bos_token_id or 0])


if __name__ == "__main__": main()
