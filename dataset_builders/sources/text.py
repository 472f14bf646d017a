"""Reads a text file whose encoding is not known for sure."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from dataset_builders.errors import DataError, RiskFuseError
from dataset_builders.stores import Location

__all__ = ["AUTO", "decode_text", "read_bytes", "read_text"]

AUTO = "auto"

# GB18030 contains GBK and GB2312. It comes last: it takes almost any bytes, UTF-8 takes hardly any but its own.
_GUESSES = ("utf-8", "gb18030")
_LINE_MARK = re.compile("(^|[\r\n])\ufeff+")  # also inside: files that begin with a mark may have been joined
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_bytes(path: Location) -> bytes:
    """Read a list or table whole.

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; paths are relative to the current directory ({Path.cwd()})") from None
    except RiskFuseError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def decode_text(raw: bytes, *, encoding: str, where: str) -> str:
    """Decode text; a byte order mark is not part of it, at its beginning or at that of any line.

    Args:
        raw: The file's bytes.
        encoding: Python's name of an encoding, or ``auto``.
        where: The file, for the error.

    Raises:
        DataError: No encoding fits.
    """
    if encoding != AUTO:
        try:
            return _LINE_MARK.sub(r"\1", raw.decode(encoding))
        except (UnicodeDecodeError, LookupError) as error:
            raise DataError(f"{where}: not readable as {encoding}: {error}; try `encoding: auto`") from error
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return decode_text(raw, encoding=name, where=where)
    for name in _GUESSES:
        try:
            return _LINE_MARK.sub(r"\1", raw.decode(name))
        except UnicodeDecodeError:
            continue
    raise DataError(f"{where}: neither UTF-8 nor GB18030; save it as UTF-8, or name its encoding with `encoding:`")


def read_text(path: Location, *, encoding: str) -> str:
    """Read and decode a text file.

    Raises:
        DataError: There is no such file, or no encoding fits.
    """
    return decode_text(read_bytes(path), encoding=encoding, where=str(path))
