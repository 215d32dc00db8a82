"""A student in PyTorch from a cache:  python student_torch.py data/caches/demo"""

import math
import sys

import logitcask
import torch
from logitcask.torch import Loader, kd_loss, to_torch
from transformers import LlamaConfig, LlamaForCausalLM

STEPS = 400
device = "cuda" if torch.cuda.is_available() else "cpu"
cache = logitcask.open(sys.argv[1])
torch.manual_seed(0)
config = LlamaConfig(vocab_size=cache.vocab_size, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
                     num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
student = LlamaForCausalLM(config).to(device)
optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.1, betas=(0.9, 0.95))
warm = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min(1, (step + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * step / STEPS))
)
for step, batch in enumerate(Loader(cache, 8, steps=STEPS, device=device)):
    loss = kd_loss(student(batch.input_ids, batch.attention_mask).logits, batch, temperature=1.0, alpha=0.9)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step(), warm.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
with torch.no_grad():
    batches = [to_torch(batch).to(device) for batch in cache["test"].batches(8)]
    losses = [kd_loss(student(b.input_ids, b.attention_mask).logits, b, alpha=0.0, reduction="none") for b in batches]
print(f"perplexity {torch.cat(losses).mean().exp():.3f}")
