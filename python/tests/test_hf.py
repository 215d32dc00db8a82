"""`transformers`: training without a subclass, and caches of its models."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import logitcask
import numpy as np
import pytest
from conftest import DATA, VOCAB, samples

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="4.50")

from logitcask import capture, hf  # noqa: E402
from logitcask.torch import kd_loss, to_torch  # noqa: E402


def student(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return transformers.LlamaForCausalLM(config)


def arguments(**options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "remove_unused_columns": False,
        "per_device_train_batch_size": 10,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "seed": 3,
        "save_steps": 10,
        "logging_steps": 5,
        "disable_tqdm": True,
        "max_steps": 20,
    }
    return {**given, **options}


def trainer(cache: logitcask.Cache, out: Path, **options: Any) -> Any:
    return transformers.Trainer(
        model=student(),
        args=transformers.TrainingArguments(str(out), **arguments(**options)),
        train_dataset=hf.Samples(cache["train"]),
        eval_dataset=hf.Samples(cache["test"]),
        data_collator=hf.Collator(cache["train"]),
        compute_loss_func=hf.Loss(temperature=2.0, alpha=0.9),
    )


def sft_trainer(cache: logitcask.Cache, out: Path, **options: Any) -> Any:
    trl = pytest.importorskip("trl")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w2")
    return trl.SFTTrainer(
        model=student(),
        args=trl.SFTConfig(str(out), dataset_kwargs={"skip_prepare_dataset": True}, **arguments(**options)),
        train_dataset=hf.Samples(cache["train"]).to_datasets(),
        eval_dataset=hf.Samples(cache["test"]).to_datasets(),
        data_collator=hf.Collator(cache["train"]),
        compute_loss_func=hf.Loss(temperature=2.0, alpha=0.9),
        processing_class=tokenizer,
    )


def same(a: Any, b: Any) -> bool:
    return all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))


@pytest.mark.parametrize("make", [trainer, sft_trainer])
def test_a_stock_trainer_learns_and_resumes(make: Any, cache: logitcask.Cache, tmp_path: Path) -> None:
    whole = make(cache, tmp_path / "a")
    whole.train()
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    half = make(cache, tmp_path / "b")
    half.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-10"))
    assert same(whole, half)


@pytest.mark.parametrize("make", [trainer, sft_trainer])
def test_a_step_is_the_same_in_parts_and_with_workers(make: Any, cache: logitcask.Cache, tmp_path: Path) -> None:
    whole = make(cache, tmp_path / "a", max_steps=3)
    parts = make(
        cache,
        tmp_path / "b",
        max_steps=3,
        per_device_train_batch_size=5,
        gradient_accumulation_steps=2,
        dataloader_num_workers=2,
    )
    whole.train(), parts.train()
    assert same(whole, parts)


def test_the_loss_of_an_evaluation_is_that_of_the_split(cache: logitcask.Cache, tmp_path: Path) -> None:
    one = trainer(cache, tmp_path / "a", per_device_eval_batch_size=9)
    one.data_collator = hf.Collator(cache["test"])
    batch = to_torch(cache["test"].batch(range(9)))
    with torch.no_grad():
        logits = one.model.eval()(batch.input_ids, batch.attention_mask).logits
    assert abs(one.evaluate()["eval_loss"] - float(kd_loss(logits, batch, 2.0, alpha=0.9))) < 1e-5


def test_labels_travel_with_their_batch(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch([3, 8, 1]))
    labels = hf.Labels.of(batch)
    copied = pickle.loads(pickle.dumps(labels)).to("cpu")
    assert torch.equal(copied, labels) and torch.equal(copied.batch.log_probs, batch.log_probs)
    for sample, row, length in zip(batch.input_ids, labels, batch.lengths, strict=True):
        assert row[0] == hf.IGNORED and torch.equal(row[1:length], sample[1:length])
        assert bool((row[length:] == hf.IGNORED).all())
    assert int((labels != hf.IGNORED).sum()) == len(batch.rows)
    assert type(labels + 0) is torch.Tensor
    with pytest.raises(TypeError, match="labels of logitcask.hf.Collator are needed, but Tensor"):
        hf.Loss()({"logits": torch.zeros(3, 12, VOCAB)}, labels + 0)


def test_a_batch_without_positions_has_no_loss_and_a_gradient_of_0(cache: logitcask.Cache) -> None:
    batch = to_torch(cache["train"].batch([0, 1])).part(0, 0)
    assert len(batch.rows) == 0
    logits = torch.zeros(*batch.input_ids.shape, VOCAB, requires_grad=True)
    for count in (None, 0, torch.tensor(0)):
        loss = hf.Loss(2.0)({"logits": logits}, hf.Labels.of(batch), count)
        loss.backward()
        assert loss.item() == 0.0 and not logits.grad.any()


def test_columns_that_a_trainer_removed_are_missed_by_name(cache: logitcask.Cache) -> None:
    with pytest.raises(KeyError, match="remove_unused_columns=False"):
        hf.Collator(cache["train"])([{}])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_cache_of_a_model_has_its_logits(family: str, tmp_path: Path, tokenizer: Path) -> None:
    folders = [path for path in sorted((DATA / "golden" / "families").iterdir()) if path.name.startswith(family)]
    model = transformers.AutoModelForCausalLM.from_pretrained(folders[0]).eval()
    vocab = model.get_output_embeddings().weight.shape[0]
    texts = [[token % vocab for token in text] for text in samples(20, 4)]
    marked = [{"input_ids": text, "mask": [i % 2 for i in range(len(text))]} for text in texts]
    options = {"teacher": logitcask.Pin.of(folders[0]), "tokenizer": tokenizer, "selection": logitcask.top_k(8)}
    capture.from_transformers(model, {"train": texts}, tmp_path / "all", samples_per_unit=6, **options)
    capture.from_transformers(model, {"train": marked}, tmp_path / "marked", samples_per_unit=6, **options)
    whole, chosen = logitcask.open(tmp_path / "all"), logitcask.open(tmp_path / "marked")
    assert whole.verify() == [] and chosen.verify() == []
    for number, text in enumerate(texts):
        with torch.no_grad():
            exact = model(torch.tensor([text])).logits[0, :-1].log_softmax(1).numpy()
        sample = whole["train"][number]
        want = np.take_along_axis(exact, sample.class_ids, 1)
        assert np.abs(sample.log_probs - want).max() < 8e-3
        assert sample.class_ids[:, 0].tolist() == exact.argmax(1).tolist()
        places = [i for i in range(len(text) - 1) if (i + 1) % 2]
        part = chosen["train"][number]
        assert part.labels.tolist() == [text[i + 1] for i in places]
        assert np.abs(part.log_probs - sample.log_probs[places]).max() < 1e-3
