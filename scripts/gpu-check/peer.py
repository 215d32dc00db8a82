"""What PyTorch makes of the same work, as rows of a Markdown table.

    peer.py copy                  memory bandwidth, and topk with logsumexp, on 64 MiB of logits
    peer.py rates NAME FOLDER     a model's forward alone, and with topk and logsumexp brought into memory
    peer.py make FOLDER [small]   a Llama of 1.1 billion random weights, or a tiny one
"""
import sys
import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
BATCH = (64, 256)
RUNS = 5


def best(work):
    """Seconds of the fastest of some runs; the first is not counted."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        work()
        if DEVICE != "cpu":
            getattr(torch, DEVICE).synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def keep(logits):
    """What a caching script would keep of rows, in memory."""
    top = logits.float().topk(64, dim=-1)
    log_z = logits.float().logsumexp(-1, keepdim=True)
    return (top.values - log_z).half().cpu(), top.indices.int().cpu(), log_z.cpu()


def copy():
    for classes in (32000, 131072):
        rows = (64 << 20) // (4 * classes)
        chunks = [2.2 * torch.randn(rows, classes, device=DEVICE) for _ in range(4)]
        count = 4 * rows
        seconds = best(lambda: [chunk + 1 for chunk in chunks])
        rate = 2 * 4 * classes * count / seconds / 1e9
        print(f"| torch, {classes} classes: copy | {DEVICE} | {1e6 * seconds / count:.2f} us a row, {rate:.1f} GB/s |")
        seconds = best(lambda: [keep(chunk) for chunk in chunks])
        print(f"| torch, topk and logsumexp into memory | {DEVICE} | {1e6 * seconds / count:.2f} us a row |")


def rates(name, folder):
    from transformers import AutoModelForCausalLM

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        if DEVICE == "cpu" and dtype != torch.float32:
            continue
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype).to(DEVICE).eval()
        width = min(BATCH[1], model.config.max_position_embeddings)
        tokens = torch.randint(model.config.vocab_size, (BATCH[0], width), device=DEVICE)
        # In parts, as whole logits of a batch need not fit.
        parts = tokens.split(16)

        @torch.inference_mode()
        def forward(then):
            for part in parts:
                then(model(part, use_cache=False).logits)

        for what, then in (("forward alone", lambda logits: None), ("and topk, logsumexp into memory", keep)):
            rate = BATCH[0] * (width - 1) / best(lambda: forward(then))
            print(f"| transformers, {name}, {what} | {DEVICE}, {str(dtype).removeprefix('torch.')} | {rate:.0f} positions/s |")


def make(folder, small):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = (64, 128, 2, 4, 2) if small else (2048, 5632, 22, 32, 4)
    hidden, intermediate, layers, heads, kv_heads = shape
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)


command, arguments = sys.argv[1], sys.argv[2:]
if command == "copy":
    with torch.inference_mode():
        copy()
elif command == "rates":
    rates(*arguments)
elif command == "make":
    make(arguments[0], len(arguments) > 1)
else:
    sys.exit(__doc__)
