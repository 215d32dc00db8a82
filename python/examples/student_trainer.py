"""The student of student_torch.py with `transformers.Trainer`:  python student_trainer.py data/caches/demo OUT"""

import sys

import logitcask
from logitcask import hf
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

cache = logitcask.open(sys.argv[1])
set_seed(0)
config = LlamaConfig(vocab_size=cache.vocab_size, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
                     num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
arguments = TrainingArguments(
    output_dir=sys.argv[2],
    remove_unused_columns=False,  # what a sample has is for the collator, not for the model
    max_steps=400,
    per_device_train_batch_size=8,
    learning_rate=3e-3,
    lr_scheduler_type="cosine",
    warmup_steps=20,
    weight_decay=0.1,
    adam_beta2=0.95,
    logging_steps=50,
    report_to=[],
)
trainer = Trainer(
    model=LlamaForCausalLM(config),
    args=arguments,
    train_dataset=hf.Samples(cache["train"]),
    data_collator=hf.Collator(cache["train"]),
    compute_loss_func=hf.Loss(temperature=1.0, alpha=0.9),
)
trainer.train()
trainer.save_model()
cache.tokenizer().save_pretrained(sys.argv[2])
