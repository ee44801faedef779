"""Silences what Lightning says to everyone and nobody needs, so that what matters is seen."""

from __future__ import annotations

import logging
import warnings

CHATTER: tuple[str, ...] = (
    "💡 Tip",
    "GPU available",
    "TPU available",
    "HPU available",
    "`Trainer.fit` stopped",
    "Loaded model weights",
)
CHATTER += ("Restoring states from", "Restored all states", "Loading `train_dataloader`", "Seed set to")
CHATTER += ("`weights_only` was not set", "[rank:", "Initializing distributed", "-----")
LOGGERS = (
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
)
NOISE = (
    r".*does not have many workers.*",
    r".*isn't a multiple of.*logging interval.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",  # runs go on in their own folder
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`isinstance\(treespec.*",
    r".*GPU available but not used.*",
)


def _tells(record: logging.LogRecord) -> bool:
    """Tell whether a log record says something."""
    return not record.getMessage().lstrip().startswith(CHATTER)


def quieten() -> None:
    """Install the filters; calling it twice does no harm."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_tells)
    for pattern in NOISE:
        warnings.filterwarnings("ignore", message=pattern)
