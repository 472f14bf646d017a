"""Files behind URIs (``s3://``, ``gs://``, ``http://``, …): what RiskFuse needs of ``pathlib.Path``, by fsspec.

Whoever takes a ``Location`` takes a path or a URI, and works on either by the methods that both have.
"""

from __future__ import annotations

import errno
import fnmatch
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from dataset_builders.errors import ConfigError, StoreError, StoreForbidden

__all__ = ["FORBIDDEN", "Location", "StorePath", "each", "listed", "location", "parquet_source"]

FORBIDDEN = "no permission"
AT_ONCE = 16  # requests of a process; a request mostly waits
PAUSES_S = (0.5, 2.0)  # before a request is tried again
_SCHEME = "://"
_WEB = ("http://", "https://")
# What stores call a hash of an object; times are asked only of those that have none.
_HASHES = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created", "size")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class StorePath:
    """A file or directory behind a URI. Like ``Path``, it raises FileNotFoundError.

    Attributes:
        uri: As the user wrote it, without a slash at the end.

    Raises:
        ConfigError: By any method: the protocol is unknown, lacks its package, or cannot be written.
        StoreError: By any method: the store does not answer, also not when asked again.
        StoreForbidden: By any method: it does not let us. A PermissionError, as on a disk.
    """

    uri: str

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self.uri}/{quote(name) if self.uri.startswith(_WEB) else name}")

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.uri.rpartition("/")[2]

    @property
    def parent(self) -> StorePath:
        """What precedes the last slash."""
        return StorePath(self.uri.rpartition("/")[0])

    def read_bytes(self) -> bytes:
        """The whole file."""
        return self._ask(lambda fs, path: fs.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole file, decoded."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Put the whole file. Object stores show the old object or the new one, nothing between."""
        try:
            self._ask(lambda fs, path: fs.pipe_file(path, content), "written")
        except FileNotFoundError as error:
            raise StoreError(f"{self.uri}: cannot be written: there is no such bucket or directory") from error

    def is_file(self) -> bool:
        """False when it is not there."""
        try:
            return self._ask(lambda fs, path: fs.info(path))["type"] == "file"
        except FileNotFoundError:
            return False

    def identity(self) -> str:
        """The store's own hash of the content; where it has none, time and size."""
        info = self._ask(lambda fs, path: fs.info(path))
        found = [f"{key}={info[key]}" for key in _HASHES if info.get(key)]
        return (found or [" ".join(f"{key}={info[key]}" for key in _TIMES if info.get(key) is not None)])[0]

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            self._ask(lambda fs, path: fs.rm_file(path), "removed")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """Files of this directory whose name fits; none when there is no such directory."""
        try:
            found = self._ask(_listed, "listed")
        except FileNotFoundError:
            return
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        yield from (self / name for name in names if fnmatch.fnmatchcase(name, pattern))

    def _ask(self, request: Callable[[Any, str], Any], done: str = "read") -> Any:
        for pause_s in (*PAUSES_S, None):
            try:
                with _plain_errors(self.uri, done):
                    return request(*_opened(self.uri))
            except StoreError:
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")


Location = Path | StorePath


def location(text: str | Location) -> Location:
    """A path, or a URI where the text has a scheme; ``file://`` is a path like any other."""
    if not isinstance(text, str):
        return text
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return StorePath(text.rstrip("/")) if _SCHEME in text else Path(text)


def listed(directory: Location, pattern: str) -> list[Location]:
    """Files of the directory whose name fits, none when there is no such directory.

    Sorted by name, shorter ones first, so that part-100000 comes after part-99999.
    """
    found: list[Location] = list(directory.glob(pattern))
    return sorted(found, key=lambda place: (len(place.name), place.name))


def each(function: Callable[[Location], _Result], places: Sequence[Location]) -> list[_Result]:
    """Results in the order of the places; those of a store are asked for several at a time."""
    if len(places) < 2 or not any(isinstance(place, StorePath) for place in places):
        return [function(place) for place in places]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, places))


def parquet_source(place: Location) -> Any:
    """What pyarrow's readers take for the file."""
    import pyarrow as pa

    return place if isinstance(place, Path) else pa.BufferReader(place.read_bytes())


def _listed(fs: Any, path: str) -> list[str]:
    fs.invalidate_cache()
    return fs.ls(path, detail=False)


def _opened(uri: str) -> tuple[Any, str]:
    """The file system and the path in it.

    Raises:
        ConfigError: The protocol is unknown, or its package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise ConfigError(
            f"{uri}: {error}, on every machine that takes part (s3fs and gcsfs in fsspec's version, "
            f"{fsspec.__version__})"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{uri}: {error}; known are s3, gs, abfs, http and what else fsspec names") from error


@contextmanager
def _plain_errors(uri: str, done: str) -> Iterator[None]:
    """Every client raises errors of its own: they become FileNotFoundError, StoreForbidden or StoreError.

    What this kind of store can do with no file (NotImplementedError, HTTP 405 and 501) is a ConfigError that names
    what was to be ``done``.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # fsspec's HTTP calls whatever went wrong "not found"
        status = getattr(cause, "status", None)
        if isinstance(error, NotImplementedError) or status in (405, 501):
            raise ConfigError(
                f"{uri}: cannot be {done} in this kind of store; name a directory or an object store"
            ) from error
        if isinstance(error, PermissionError) or status in (401, 403):
            raise StoreForbidden(f"{uri}: {FORBIDDEN}; check the store's credentials") from error
        lost = status is not None or isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp")
        if isinstance(error, FileNotFoundError) and (cause is error or status in (404, 410) or not lost):
            raise FileNotFoundError(errno.ENOENT, "no such file", uri) from error
        if isinstance(error, IsADirectoryError):
            raise
        raise StoreError(
            f"{uri}: not reached from {socket.gethostname()}: {type(cause).__name__}: {cause}. Check the address, the "
            "network, and that every machine has the store's credentials; then run the same command again"
        ) from error
