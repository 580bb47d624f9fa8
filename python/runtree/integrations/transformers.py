"""Hugging Face Transformers: a callback for an unmodified ``Trainer``, a mixin that saves without writing directories, and
``runtree://`` where a path or a name on the Hub is taken.

    callback = RuntreeCallback(project="sft", run_id="llama-sft")         # the same run_id is the same run
    trainer = Trainer(model, args, train_dataset=data, callbacks=[callback])
    trainer.train(resume_from_checkpoint=callback.resume_path())           # None at the first start

What is built on ``Trainer`` (TRL, PEFT, sentence-transformers) takes the same. See docs/integrations/transformers.md.
"""

from __future__ import annotations

from runtree.integrations._transformers_callback import RuntreeCallback
from runtree.integrations._transformers_hooks import autolog, undo
from runtree.integrations._transformers_mixin import RuntreeTrainerMixin
from runtree.integrations._transformers_pretrained import pretrained_dir
from runtree.integrations._transformers_urls import disable_urls, enable_urls

__all__ = [
    "RuntreeCallback", "RuntreeTrainerMixin", "autolog", "disable_urls", "enable_urls", "pretrained_dir", "undo",
]  # fmt: skip
