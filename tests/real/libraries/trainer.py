"""transformers: a Trainer that resumes, from_pretrained of a .bin."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

from tests.real.programs.digest import show

CONFIG = BertConfig(
    vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=8
)


def trained(resume: str | None) -> Any:
    """Train for four steps, or for those that a checkpoint has before it."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(CONFIG)
    data = [{"input_ids": [n % 20, 2, 3], "labels": n % 2} for n in range(8)]
    arguments = TrainingArguments(
        output_dir="out", max_steps=4, save_steps=2, per_device_train_batch_size=2, use_cpu=True, report_to=[], disable_tqdm=True,
        logging_strategy="no", learning_rate=0.1,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    trainer.remove_callback(PrinterCallback)  # it prints how long the training took
    trainer.train(resume_from_checkpoint=resume)
    return model


for resume in (None, "out/checkpoint-2"):
    for name, tensor in sorted(trained(resume).state_dict().items()):
        show(name, tensor)

model = BertForSequenceClassification(CONFIG)
CONFIG.save_pretrained("plain")
torch.save(model.state_dict(), "plain/pytorch_model.bin")
for name, tensor in sorted(BertForSequenceClassification.from_pretrained("plain", use_safetensors=False).state_dict().items()):
    print(name, torch.equal(tensor, model.state_dict()[name]))
