"""A training step of the stories15M recipe's student in PyTorch: the same model, batch, threads and f32 as `make bench-step`.

Prints milliseconds (median) for forward, loss, backward and optimizer, and the peak memory of the process.
Usage: step.py [CLASSES] [attention: sdpa|eager]
"""
import resource, statistics, sys, time
import torch
from transformers import LlamaConfig, LlamaForCausalLM

WINDOWS, POSITIONS, HIDDEN = 8, 180, 96
classes = int(sys.argv[1]) if len(sys.argv) > 1 else 32000
attention = sys.argv[2] if len(sys.argv) > 2 else "sdpa"
torch.manual_seed(0)
torch.set_num_threads(2)
config = LlamaConfig(
    vocab_size=classes, hidden_size=HIDDEN, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=POSITIONS + 1, tie_word_embeddings=True, attn_implementation=attention,
    use_cache=False,
)
model = LlamaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
tokens = torch.randint(0, classes, (WINDOWS, POSITIONS + 1))
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
parts = {"forward": [], "loss": [], "backward": [], "optimizer": [], "step": []}
for step in range(13):
    clock = [time.perf_counter()]
    hidden = model.model(tokens[:, :-1]).last_hidden_state
    logits = model.lm_head(hidden.reshape(-1, HIDDEN))
    clock.append(time.perf_counter())
    loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].reshape(-1))
    clock.append(time.perf_counter())
    loss.backward()
    clock.append(time.perf_counter())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    clock.append(time.perf_counter())
    assert torch.isfinite(loss)
    if step >= 2:
        for name, a, b in zip(parts, clock, clock[1:]):
            parts[name].append(1e3 * (b - a))
        parts["step"].append(1e3 * (clock[-1] - clock[0]))
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024
cells = " | ".join(f"{statistics.median(values):.1f}" for values in parts.values())
print(f"| PyTorch {torch.__version__}, {attention} | {classes} | {cells} | {peak:.0f} |")
