"""Where an encoder's files come from: a hub id, a local folder, or the checkpoint that an encoder was saved in.

An encoder that read files (configuration, tokenizer, normalisation) keeps their contents and puts them into checkpoints
as strings, through `get_extra_state`. Inside `rebuilding(checkpoint)` an encoder that names the same source is built
from those strings, without weights (the checkpoint holds them), network or the folder it was first made from:

    checkpoint = torch.load("last.ckpt", weights_only=True)
    with rebuilding(checkpoint):
        task = GroundingTask(text_encoder=HFTextEncoder("bert-base-uncased"), ...)
    task.load_state_dict(checkpoint["state_dict"])
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from safetensors import SafetensorError
from torch import Tensor

from medvl.errors import ConfigError, MedvlError

T = TypeVar("T")
Files = dict[str, str]

_FOREIGN = (OSError, ValueError, TypeError, RuntimeError, LookupError, ImportError, SafetensorError, UnpicklingError)
_SAVED: ContextVar[Mapping[tuple[str, str], Files] | None] = ContextVar("saved", default=None)


@dataclass(frozen=True)
class Source:
    """Where to read from.

    Attributes:
        path: A hub id or a folder: what `from_pretrained` takes.
        weights: False when weights come from a checkpoint later on.
    """

    path: str
    weights: bool = True


def extra_state(kind: str, source: str, files: Files) -> dict[str, Any]:
    """Return what an encoder of this kind ("image", "text") puts into checkpoints: strings only."""
    return {"kind": kind, "source": source, "files": files}


@contextmanager
def rebuilding(checkpoint: Mapping[str, Any]) -> Iterator[None]:
    """Let encoders built inside take their files from a checkpoint (or its state dict) and leave weights to it."""
    states = checkpoint.get("state_dict", checkpoint)
    found = [v for k, v in states.items() if k.endswith("_extra_state") and isinstance(v, dict) and "source" in v]
    token = _SAVED.set({(v["kind"], v["source"]): v["files"] for v in found})
    try:
        yield
    finally:
        _SAVED.reset(token)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turn what the libraries raise about a source into one `ConfigError` that names the offline way."""
    try:
        yield
    except MedvlError:
        raise
    except _FOREIGN as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        if Path(source).exists() or not isinstance(error, OSError):
            raise ConfigError(f"cannot build an encoder from {source!r}", where="pretrained", hint=cause) from error
        if source.startswith((".", "/", "~")):
            raise ConfigError(f"no such folder: {source}", where="pretrained") from error
        raise ConfigError(
            f"{source!r} is not on this machine and could not be downloaded",
            where="pretrained",
            hint="offline, pass a local folder as `pretrained`: fetch it where there is a network, and copy it here",
            command=f"hf download {source.removeprefix('hf-hub:')} --local-dir FOLDER",
        ) from error


@contextmanager
def opened(kind: str, source: str) -> Iterator[Source]:
    """Find a source; errors met while reading it come out as one `ConfigError` that names the offline way."""
    files = (_SAVED.get() or {}).get((kind, source))
    with explained(source):
        if files is None:
            yield Source(source)
            return
        with TemporaryDirectory(prefix="medvl-") as folder:
            unpack(files, Path(folder))
            yield Source(folder, weights=False)


def pack(folder: Path) -> Files:
    """Read every file of a folder as text: Latin-1, so that any bytes survive the way there and back."""
    return {path.name: path.read_bytes().decode("latin-1") for path in sorted(folder.iterdir()) if path.is_file()}


def unpack(files: Files, folder: Path) -> None:
    """Write packed files into a folder; a name that points elsewhere is refused."""
    for name, text in files.items():
        if Path(name).name != name:
            raise ConfigError("a checkpoint holds a file name that points outside its folder", where=repr(name))
        (folder / name).write_bytes(text.encode("latin-1"))


def load(loader: Callable[..., T], path: str, **options: Any) -> T:
    """Call a `from_pretrained`, from disk or the hub's cache first: what is there needs no network."""
    try:
        return loader(path, local_files_only=True, trust_remote_code=False, **options)
    except OSError:
        if Path(path).is_dir() or os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
            raise
    return loader(path, trust_remote_code=False, **options)


def read_json(path: str, name: str) -> dict[str, Any]:
    """Read one JSON file of a folder or hub id; an absent one is empty."""
    found = import_module("transformers.utils").cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    content = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
    return content if isinstance(content, dict) else {}


def check_loaded(missing: Mapping[str, Tensor], used: set[int], source: str) -> None:
    """Refuse weights that lack tensors which the features depend on: random ones would stand in for them."""
    lost = [name for name, parameter in missing.items() if id(parameter) in used]
    if lost:
        what = f"the weights of {source!r} lack {len(lost)} tensors that the encoder needs"
        raise ConfigError(what, where=", ".join(lost[:2]) + (" …" if len(lost) > 2 else ""))
