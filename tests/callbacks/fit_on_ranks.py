"""Trains with the visualiser; run as a program, by as many processes as its first argument says.

Without dropout and batch norm two processes make the same network as one with batches of twice the size.
"""

import sys

import lightning.pytorch as pl
import torch
from digits import Classifier, Digits
from torch import nn

from fvlightning.callbacks import VisualizationCallback
from fvlightning.features import Maximizer

if __name__ == "__main__":
    n_processes, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    pl.seed_everything(0)
    module = Classifier(lr=1e-3)
    module.net.norm, module.net.drop = nn.Identity(), nn.Identity()
    callback = VisualizationCallback(["conv:*", "fc:0-4"], Maximizer(steps=24), dirpath=folder)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=n_processes,
        strategy="ddp" if n_processes > 1 else "auto",
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Digits(batch_size=16 // n_processes))
    if trainer.is_global_zero:
        torch.save(module.net.state_dict(), f"{folder}/weights.pt")
