"""An unmodified Hugging Face Trainer: it resumes where it was killed, and its fork trains at its own rate.
python examples/first_week/06_hf_trainer.py; needs transformers and accelerate, downloads nothing"""

import argparse

import torch
from runtree.integrations.transformers import RuntreeCallback
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--stop-at", type=int, default=0, help="fail at this step; run it again without")
parser.add_argument("--output", default="hf-output")
arguments = parser.parse_args()


class Told(Trainer):
    def training_step(self, *args, **keywords):
        if self.state.global_step and self.state.global_step == arguments.stop_at:
            raise SystemExit("stopped; run me again")
        return super().training_step(*args, **keywords)


def train(rate: float, **which) -> RuntreeCallback:
    callback = RuntreeCallback(project="first-week", **which)  # the same run_id is the same run
    args = TrainingArguments(arguments.output, max_steps=20, save_steps=5, save_total_limit=1, logging_steps=1, learning_rate=rate,
                             report_to=[], disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False)  # fmt: skip
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
    rows = [{"input_ids": [(i * j) % 64 for j in range(16)], "labels": [(i * j) % 64 for j in range(16)]} for i in range(64)]
    trainer = Told(LlamaForCausalLM(LlamaConfig(**shape)), args, train_dataset=rows, callbacks=[callback])
    trainer.train(resume_from_checkpoint=callback.resume_path())  # None at the first start
    callback.run.finish()
    return callback


run = train(1e-3, run_id="hf").run
print(f"attempt {run.attempt}, {len(run.checkpoints())} checkpoints, loss {run.history('train/loss').values[-1]:.2f}")
fork = train(1e-4, fork=f"{run.display_id}@10", run_id="hf-lower").run
print(f"{fork.display_id} forked at step {fork.fork_step}, trained at {fork.history('train/learning_rate').values[10]:.1e}")
