"""Makes hidden/: the last hidden states of the checkpoints of families/ on both sides of the final norm, with the
log-probabilities of the tokens, as an exporter would write them, and what transformers says of their rows (expected.json).
All is computed in float64; the states are rounded to float32. Needs torch, transformers 5 and safetensors.

Usage: python data/golden/make_hidden_states.py
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
TOKENS, KEPT = 7, 8


def last_layer(model):
    """The last of the layers, which are the outermost list of modules."""
    return next(module for module in model.get_decoder().modules() if isinstance(module, torch.nn.ModuleList))[-1]


def states(model, ids):
    """The output of the last layer, the input of the head, and the logits."""
    seen = {}

    def leaves(module, inputs, output):
        seen["before"] = output[0] if isinstance(output, tuple) else output

    def enters(module, inputs):
        seen["after"] = inputs[0]

    hooks = [last_layer(model).register_forward_hook(leaves),
             model.get_output_embeddings().register_forward_pre_hook(enters)]
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    for hook in hooks:
        hook.remove()
    return seen["before"].reshape(len(ids), -1), seen["after"].reshape(len(ids), -1), logits


def rounded(values):
    return [float(f"{value:.12g}") for value in values]


def main():
    (HERE / "hidden").mkdir(exist_ok=True)
    expected = {}
    for number, folder in enumerate(sorted((HERE / "families").iterdir())):
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64,
                                                         experts_implementation="eager").eval()
        except ValueError as error:
            print(f"{folder.name}: left out, {error}")
            continue
        ids = torch.randint(1, 128, [TOKENS], generator=torch.Generator().manual_seed(number))
        before, after, logits = states(model, ids)
        assert logits.dtype == torch.float64, folder.name
        log_probs = logits.log_softmax(-1)
        told = torch.full([TOKENS], float("nan"), dtype=torch.float64)
        told[1:] = log_probs[torch.arange(TOKENS - 1), ids[1:]]
        save_file({"token_ids": ids, "before": before.float().contiguous(), "after": after.float().contiguous(),
                   "token_logprobs": told.float()}, HERE / "hidden" / f"{folder.name}.safetensors")
        rows = []
        for position in range(TOKENS - 1):
            row = log_probs[position]
            order = torch.argsort(-row, stable=True)[:KEPT]
            rows.append(dict(ids=order.tolist(), log_probs=rounded(row[order].tolist()),
                             log_z=rounded([logits[position].logsumexp(-1).item()])[0],
                             log_z_at_2=rounded([(logits[position] / 2).logsumexp(-1).item()])[0],
                             label=rounded([told[position + 1].item()])[0]))
        expected[folder.name] = rows
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in expected.items())
    (HERE / "hidden" / "expected.json").write_text("{\n" + lines + "\n}\n")


main()
