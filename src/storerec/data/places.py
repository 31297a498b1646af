"""Where tables are: a file, a folder of files, or the URL of either in an object store."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any, cast
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from storerec.errors import DataError, MissingExtraError
from storerec.storage import atomic

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_TABLE_FORMATS = {"_delta_log": "Delta", ".hoodie": "Hudi"}


@dataclass(frozen=True)
class File:
    """One file, on this machine or in an object store.

    Attributes
    ----------
    name
        What messages call it: the path or URL as given, without passwords and options.
    path
        Where it is in ``system``.
    size
        Bytes.
    system
        The file system.
    """

    name: str
    path: str
    size: int
    system: fs.FileSystem = field(repr=False, compare=False)

    def __str__(self) -> str:
        """The name, as messages need it."""
        return self.name

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.system, fs.LocalFileSystem)

    @property
    def zipped(self) -> bool:
        """Whether its name ends with .gz."""
        return self.name.lower().endswith(".gz")

    def stream(self) -> pa.NativeFile:
        """Open it to be read from the beginning, unpacked where its name ends with .gz."""
        stream = self.system.open_input_stream(self.path, compression=None)
        return pa.CompressedInputStream(stream, "gzip") if self.zipped else stream

    def bytes(self) -> IO[bytes]:
        """Open it for Python's own readers, unpacked where its name ends with .gz."""
        stream: Any = self.system.open_input_stream(self.path, compression=None)
        raw = cast(IO[bytes], io.BufferedReader(stream, 1 << 20))
        # not Arrow's unpacking: Python's says what is wrong with a damaged file
        return cast(IO[bytes], gzip.open(raw)) if self.zipped else raw

    def anywhere(self) -> pa.NativeFile:
        """Open it to be read at any place, as Parquet needs."""
        return self.system.open_input_file(self.path)


Place = str | Path | File


def is_url(place: Place) -> bool:
    """Whether ``place`` is written as a URL."""
    return isinstance(place, str) and _URL.match(place) is not None


def name_of(place: Place) -> str:
    """What messages call a place: passwords and options of a URL are left out."""
    if not is_url(place):
        return str(place)
    parts = urlsplit(str(place))
    host = parts.netloc.rpartition("@")[2] if ":" in parts.netloc.rpartition("@")[0] else parts.netloc
    return f"{parts.scheme}://{host}{parts.path}"


def one_file(place: Place) -> File:
    """Find a file; raises :class:`DataError` where there is none, or a folder, or it cannot be reached."""
    if isinstance(place, File):
        return place
    system, path, name = _resolved(place)
    info = _info(system, path, name)
    if info.type == fs.FileType.Directory:
        raise DataError(f"{name}: is a folder, not a file")
    return File(name, path, _size(info), system)


def table_files(place: Place) -> tuple[File, ...]:
    """Find the files of a table: the file itself, or all of a folder and its folders in order of their names.

    Files and folders whose names begin with a dot or an underscore are left out, as ``_SUCCESS`` is.

    Raises
    ------
    DataError
        There is nothing, it cannot be reached or may not be read, the folder has no file, or it is a table of another
        format, whose files are not all to be read.
    MissingExtraError
        No installed library reads such a URL.
    """
    if isinstance(place, File):
        return (place,)
    system, path, name = _resolved(place)
    info = _info(system, path, name)
    if info.type != fs.FileType.Directory:
        return (File(name, path, _size(info), system),)
    with _reaching(name):
        found = system.get_file_info(fs.FileSelector(path, recursive=True))
    inner = {one: PurePath(one.path.lstrip("/")).relative_to(path.strip("/")).parts for one in found}
    for parts in inner.values():
        if parts[0] in _TABLE_FORMATS:
            kind = _TABLE_FORMATS[parts[0]]
            raise DataError(f"{name}: is a {kind} table, some of whose files are out of date; export it as Parquet")
    shown = {one: parts for one, parts in inner.items() if not any(part[0] in "._" for part in parts)}
    files = sorted((one for one in shown if one.type == fs.FileType.File), key=shown.__getitem__)
    if not files:
        raise DataError(f"{name}: is a folder without files")
    return tuple(File(_joined(place, name, shown[one]), one.path, _size(one), system) for one in files)


@contextmanager
def written(place: str | Path) -> Iterator[Path]:
    """Give a temporary path to write a file to, and put the file at ``place`` when the block ends well.

    On this machine the file is moved there whole. To an object store it is sent when it is complete; most show an
    object only when all of it has arrived.

    Raises
    ------
    DataError
        The place cannot be reached, may not be written to, or the file did not arrive.
    MissingExtraError
        No installed library writes to such a URL.
    """
    if not is_url(place):
        with atomic(place) as temporary:
            yield temporary
        return
    system, path, name = _resolved(place)
    if isinstance(system, fs.LocalFileSystem):
        with atomic(path) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / (PurePath(path).name or "file")
        yield temporary
        with _reaching(name, "written to"):
            fs.copy_files(str(temporary), path, fs.LocalFileSystem(), system)
        if (arrived := _info(system, path, name).size) != temporary.stat().st_size:
            raise DataError(f"{name}: {arrived} of {temporary.stat().st_size} bytes arrived; write it again")


def _resolved(place: str | Path) -> tuple[fs.FileSystem, str, str]:
    """File system, path in it, and the name for messages."""
    name = name_of(place)
    if not is_url(place):
        return fs.LocalFileSystem(), Path(place).absolute().as_posix(), name  # workers run in other folders
    url = str(place)
    with _reaching(name):
        try:
            system, path = fs.FileSystem.from_uri(url)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            # "Unrecognized" where Arrow has no such file system, or was built without it
            if not isinstance(error, pa.ArrowNotImplementedError) and "nrecognized" not in str(error):
                raise
            system, path = _through_fsspec(url, name)
    return system, path.rstrip("/") or path, name


def _through_fsspec(url: str, name: str) -> tuple[fs.FileSystem, str]:
    scheme = url.partition("://")[0]
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{name}: {scheme}:// needs a library that is not installed ({_line(error)})") from None
    except ValueError:
        raise DataError(f"{name}: no library reads {scheme}://; use a path, s3://, gs:// or abfs://") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def _info(system: fs.FileSystem, path: str, name: str) -> fs.FileInfo:
    with _reaching(name):
        info = system.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise DataError(f"{name}: no such file")
    return info


def _size(info: fs.FileInfo) -> int:
    """Bytes of a file; 1 where a server does not say, since only who reads it can tell whether it is empty."""
    return 1 if info.size is None else int(info.size)


def _joined(place: str | Path, name: str, parts: tuple[str, ...]) -> str:
    return "/".join((name.rstrip("/"), *parts)) if is_url(place) else str(Path(name, *parts))


@contextmanager
def _reaching(name: str, what: str = "reached") -> Iterator[None]:
    """Make errors of a file system ours."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name}: {unreadable(error, what)}") from None


def unreadable(error: BaseException, what: str = "read") -> str:
    """Say why a file cannot be read, and what to do where that is known."""
    text = _line(error)
    if isinstance(error, PermissionError) or re.search(r"ACCESS_DENIED|AccessDenied|Forbidden|\b403\b", str(error)):
        return f"may not be {what}; check the permissions or credentials ({text})"
    return f"cannot be {what} ({text})"


def _line(error: BaseException) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
