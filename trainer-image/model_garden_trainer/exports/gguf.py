"""GGUF files, made and tried by llama.cpp's own programs: the converter, ``llama-quantize``, and the one that answers.

They are looked for below the folder that LLAMA_CPP_DIR names (a checkout with its ``build``, or an unpacked release),
else on PATH.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import log
from model_garden_trainer.exports.outputs import Exports
from model_garden_trainer.models.quantized import comes_quantized

FOLDER_ENV = "LLAMA_CPP_DIR"
CONVERTER = "convert_hf_to_gguf.py"
QUANTIZE = "llama-quantize"
ANSWERING = ("llama-completion", "llama-cli")  # releases before 2026 had one program for both
SEEING = ("llama-mtmd-cli",)
BY_CONVERTER = ("f32", "f16", "bf16", "q8_0")
"""Types that the converter writes itself; the others are made of its bf16 file by llama-quantize."""
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class Programs:
    """The command of each program."""

    convert: list[str]
    quantize: list[str]
    answer: list[str]


def check(spec: EffectiveSpec, base: Path) -> None:
    """See that llama.cpp's programs are here, run, and know the model: they convert the base model's vocabulary, and
    rehearse the conversion of its image encoder.

    Raises:
        TrainingError: InvalidSpec.
    """
    found = programs(spec)
    with tempfile.TemporaryDirectory() as folder:
        whole = [*found.convert, str(base), "--outfile", str(Path(folder) / "rehearsal.gguf")]
        tried = _run([*whole, "--vocab-only"])
        if spec.vision and not tried.returncode and not comes_quantized(base):  # a merge of it will be in 16 bit
            tried = _run([*whole, "--mmproj", "--dry-run"])
    if tried.returncode:
        log(tried.stderr)
        raise TrainingError(
            "InvalidSpec",
            f"spec.saveMethod: {CONVERTER} cannot convert {spec.base_model}: {_tail(tried.stderr, 1)}; install the "
            "packages that the converter needs (pip install gguf sentencepiece), or use a newer llama.cpp if it does "
            "not support the model, or use merged_16bit and convert the model yourself",
        )


def programs(spec: EffectiveSpec) -> Programs:
    """Where the programs are that this job needs.

    Raises:
        TrainingError: InvalidSpec naming those that are missing, all at once.
    """
    converter, quantize = _find(CONVERTER), _find(QUANTIZE)
    names = SEEING if spec.vision else ANSWERING
    answer = next((path for path in map(_find, names) if path), None)
    needed = [(CONVERTER, converter), (QUANTIZE, quantize), (names[0], answer)]
    if spec.gguf_quantization in BY_CONVERTER:
        del needed[1]
    missing = [name for name, path in needed if path is None]
    if missing:
        where = f"below {FOLDER_ENV} ({os.environ[FOLDER_ENV]})" if os.environ.get(FOLDER_ENV) else "on PATH"
        raise TrainingError(
            "InvalidSpec",
            f"spec.saveMethod: gguf needs {', '.join(missing)} of llama.cpp, not found {where}; install llama.cpp "
            f"(github.com/ggml-org/llama.cpp) and let {FOLDER_ENV} name its folder, or use saveMethod: merged_16bit "
            "and convert elsewhere",
        )
    # a script on PATH was installed to be run by its own Python; one in a checkout is run by ours, which has torch
    script = [str(converter)] if not os.environ.get(FOLDER_ENV) else [sys.executable, str(converter)]
    return Programs(script, [str(quantize)], [str(answer)])


def convert(config: TrainerConfig, merged: Path, output: Path) -> Exports:
    """The merged model as one GGUF file below ``output``; of a vision model also its image encoder as another.

    Raises:
        TrainingError: ExportFailed; the adapter is kept.
    """
    spec, found = config.spec, programs(config.spec)
    kind = spec.gguf_quantization or "q4_k_m"
    path = output / f"{config.name}-{kind}.gguf"
    if kind in BY_CONVERTER:
        _convert(found, merged, path, config.name, ["--outtype", kind])
    else:
        with tempfile.TemporaryDirectory(dir=output, prefix="converting-") as between:
            whole = Path(between) / "bf16.gguf"
            _convert(found, merged, whole, config.name, ["--outtype", "bf16"])
            _must([*found.quantize, str(whole), str(path), kind.upper()], path)
    projector = None
    if spec.vision:
        projector = output / f"mmproj-{config.name}-f16.gguf"
        _convert(found, merged, projector, config.name, ["--outtype", "f16", "--mmproj"])
    return Exports(merged=merged, gguf=path, projector=projector)


def answer(
    spec: EffectiveSpec, made: Exports, prompt: str, pictures: Sequence[Path], context: int, new_tokens: int
) -> str:
    """What llama.cpp answers with the files.

    Args:
        spec: the job's.
        made: with a GGUF file, of a vision model also the image encoder's.
        prompt: of a text model the rendered prompt; of a vision model the user's text, which llama.cpp renders itself.
        pictures: files of the row's images.
        context: tokens that prompt and answer have room for.
        new_tokens: longest answer.

    Raises:
        TrainingError: ExportFailed with llama.cpp's words.
    """
    assert made.gguf
    command = [*programs(spec).answer, "-m", str(made.gguf), "-p", prompt, "-n", str(new_tokens), "--temp", "0"]
    command += ["-c", str(context)]
    if spec.vision:
        command += ["--mmproj", str(made.projector), "--jinja"]
        command += [word for picture in pictures for word in ("--image", str(picture))]
    else:
        command += ["-no-cnv", "--no-display-prompt"]
    return _must(command, made.gguf).stdout.strip()


def tensors(path: Path) -> int:
    """The number of tensors in a GGUF file, by its header.

    Format: ``GGUF``, then little-endian a 32-bit version, 64-bit counts of tensors and of metadata
    (github.com/ggml-org/ggml/blob/master/docs/gguf.md).

    Raises:
        TrainingError: ExportFailed where it is no GGUF file or an empty one.
    """
    try:
        with path.open("rb") as file:
            magic, version, count, _ = struct.unpack("<4sIQQ", file.read(24))
    except (OSError, struct.error):
        magic, version, count = b"", 0, 0
    if magic != b"GGUF" or version < 2 or not count:
        raise TrainingError("ExportFailed", f"{path} is not a valid GGUF file; the adapter is kept")
    return int(count)


def _convert(found: Programs, merged: Path, path: Path, name: str, how: list[str]) -> None:
    _must([*found.convert, str(merged), "--outfile", str(path), "--model-name", name, *how], path)
    tensors(path)


def _must(command: list[str], path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that makes or reads ``path``."""
    done = _run(command)
    if done.returncode:
        log(done.stderr)
        raise TrainingError(
            "ExportFailed",
            f"{path}: {Path(command[0 if command[0] != sys.executable else 1]).name} ended with {done.returncode} and "
            f"the adapter is kept: {_tail(done.stderr or done.stdout, 10)}",
        )
    return done


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of llama.cpp's, which gets no token to the Hub along."""
    environment = {key: value for key, value in os.environ.items() if key not in _SECRETS}
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _find(name: str) -> Path | None:
    folder = os.environ.get(FOLDER_ENV)
    if not folder:
        found = shutil.which(name)
        return Path(found) if found else None
    places = (Path(folder) / inside / name for inside in ("", "bin", "build/bin"))
    return next((path.absolute() for path in places if path.is_file()), None)


def _tail(text: str, lines: int) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
