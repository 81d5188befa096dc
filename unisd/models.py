"""Models: from a hub id, a directory or a `.gguf` file to a directory that loads, and from it to model and tokenizer.

Called by the preparation, which fixes the directory, and by every stage that computes. Remote code is never run.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.config.choices import Precision
from unisd.config.model import Model
from unisd.failures import StageError
from unisd.files import own_staging, read_json, share
from unisd.hub import may_be_back

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class ModelDirectory:
    """A model that is ready to load."""

    path: Path
    digest: str
    """Names the content: commit of a hub model, hash of a file or directory."""
    source: str
    """What the manifest called it."""


def cache_directory() -> Path:
    """Where things are kept that any run may use again: `UNISD_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("UNISD_CACHE") or Path.home() / ".cache" / "unisd")


def resolve_model(model: Model, cache: Path) -> ModelDirectory:
    """The directory of a run's base model; downloads or converts it if need be.

    Raises:
        StageError: BadInput, for whatever is wrong with the model, with the way out; NonZeroExit, if the hub cannot be
            reached now.
    """
    if model.name is not None:
        return _from_hub(model.name, model.revision)
    assert model.path is not None, "validated: exactly one of name, path and claim"
    path = Path(model.path)
    if not path.exists():
        raise _bad(path, "does not exist")
    if path.suffix == ".gguf":
        digest = content_digest(path)
        return ModelDirectory(_converted(path, cache / "models" / digest[:16]), digest, str(path))
    _check_directory(path)
    return ModelDirectory(path, content_digest(path), str(path))


def _bad(path: Path | str, problem: str) -> StageError:
    return StageError("BadInput", f"spec.model: {path} {problem}")


def _from_hub(name: str, revision: str | None) -> ModelDirectory:
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        path = Path(snapshot_download(name, revision=revision, ignore_patterns=["*.gguf", "original/*"]))
    except RepositoryNotFoundError:
        raise _bad(
            name, "is not on the hub, or is private or gated: set HF_TOKEN to a token that may read it"
        ) from None
    except (HTTPError, OSError) as error:
        refused = _bad(
            name,
            f"is no path that is there, and cannot be downloaded ({type(error).__name__}): check the name and the "
            "network, or give a model by its path",
        )
        raise (StageError("NonZeroExit", str(refused)) if may_be_back(error) else refused) from None
    _check_directory(path)
    return ModelDirectory(path, path.name, name)


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise _bad(path, "is neither a model directory nor a .gguf file")
    if not (path / "config.json").is_file():
        raise _bad(path, "has no config.json: give a directory as save_pretrained writes it")
    _check_architecture(path)
    if not any(found for pattern in _WEIGHTS for found in path.glob(pattern)):
        raise _bad(path, "has no weights (*.safetensors)")
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise _bad(path, "has no tokenizer: save the tokenizer beside the model")


def _check_architecture(path: Path) -> None:
    """Refuses a model whose classes are code of its own; one that Transformers knows too is loaded by Transformers'."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (ValueError, AttributeError) as error:
        raise _bad(path, f"has a config.json that is no JSON object ({error}): save the model again") from None
    if "auto_map" in config and kind not in CONFIG_MAPPING_NAMES:
        raise _bad(path, f"is of type {kind!r}, whose code comes with it and is never run: use a type of Transformers")


def _converted(file: Path, target: Path) -> Path:
    """The directory of a `.gguf` file, converted once; complete or absent."""
    if target.is_dir():
        return target
    staging = own_staging(target)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _convert(file, staging)
        if not target.is_dir():
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _convert(file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_gguf(file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.bfloat16)
    except (ValueError, KeyError, IndexError, OSError, RuntimeError) as error:
        raise _bad(file, f"cannot be converted: {error}; give a directory of the model instead") from error
    # What was read is plain weights: unless it is told, the model holds itself for quantized and refuses to be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    share(target)


def _check_gguf(file: Path) -> None:
    """Notices a file that is no GGUF or was cut off, before anything is converted."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        end = max(int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors)
    except (ValueError, IndexError, OverflowError, OSError) as error:
        raise _bad(file, f"is no whole GGUF file ({error}): download it again") from error
    if end > file.stat().st_size:
        raise _bad(file, f"is cut off at {file.stat().st_size} of at least {end} bytes: download it again")


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a model directory.

    Raises:
        StageError: BadInput, if it does not load or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _bad(path, f"has no tokenizer that loads ({error})") from error
    if not tokenizer.chat_template:
        raise _bad(path, "has no chat template: use an instruction-tuned model, or add chat_template.jinja to it")
    return tokenizer


def load_model(path: Path, precision: Precision) -> Any:
    """The model of a directory, in evaluation mode, on the accelerator if there is one."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    # Its backward pass with an explicit mask loses rows at some lengths, which ends in NaN gradients.
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=getattr(torch, precision), attn_implementation="sdpa", trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _bad(path, f"does not load: {error}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def positions_of(path: Path) -> int | None:
    """Tokens that a prompt and its completion may have together; None where the model's configuration sets no bound."""
    config = read_json(path / "config.json")
    found: int | None = config.get("text_config", config).get("max_position_embeddings")
    return found


def stop_ids(tokenizer: Any, path: Path) -> frozenset[int]:
    """Every token that ends a completion: of the generation config, of the tokenizer and of its chat template."""
    from unisd.chat import turn_end_id

    found = {turn_end_id(tokenizer)}
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    config = path / "generation_config.json"
    if config.is_file():
        declared = json.loads(config.read_text(encoding="utf-8")).get("eos_token_id")
        found.update([declared] if isinstance(declared, int) else declared or [])
    return frozenset(found)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a directory's files."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    for found in sorted(path.rglob("*")):
        if found.is_file() and not found.name.startswith("."):
            digest.update(f"{found.relative_to(path)}\0{content_digest(found)}\n".encode())
    return digest.hexdigest()
