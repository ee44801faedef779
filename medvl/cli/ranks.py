"""Of several processes that fail together one says why: the first whose own mistake it is. Imports nothing heavy."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

TOLD = "medvl/told"  # a counter that all ranks share
LEFT = re.compile(r"(?i)closed by peer|reset by peer|broken pipe|remote process exited|failed to recv|socket.*closed")


def first_to_tell() -> bool:
    """Tell whether this process is to say what went wrong: it is alone, or no other rank has said anything yet."""
    distributed = _group()
    if distributed is not None:
        try:
            return int(distributed.distributed_c10d._get_default_store().add(TOLD, 1)) == 1
        except RuntimeError:  # rank 0, which keeps the counter, has gone, and not without a word
            return False
    # Before ranks have met, those that a launcher started side by side all fail at the same line of the same config.
    alike = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    place = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    return not alike or place == "0"


def left_alone(error: BaseException) -> bool:
    """Tell whether an error only says that another rank has gone: what counts is what that one said."""
    return isinstance(error, RuntimeError) and _group() is not None and LEFT.search(str(error)) is not None


def is_first() -> bool:
    """Tell whether this is rank 0."""
    distributed = _group()
    return distributed is None or distributed.get_rank() == 0


def _group() -> Any:
    """Return `torch.distributed` if it is loaded and ranks have met in it, or else None."""
    loaded = sys.modules.get("torch.distributed")
    return loaded if loaded is not None and loaded.is_available() and loaded.is_initialized() else None
