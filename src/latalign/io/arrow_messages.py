"""What an Arrow file is made of, out of the heads of its messages: no row of it is read, and none is mapped.

A mapped file that becomes shorter ends the process where it is looked at, and no check can be made in the
same moment. So the heads are read, and of each the few numbers that say how long it is and what follows.

References
----------
The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from latalign.io.extras import pyarrow

MAGIC = b"ARROW1"
_MARK = 0xFFFFFFFF  # before the length of a head; files from before 2019 lack it
_DICTIONARY, _BATCH = 2, 3  # of the kinds of messages
# The numbers of the fields in the tables Message and RecordBatch.
_KIND, _HEADER, _BODY, _ROWS, _COMPRESSED = 1, 2, 3, 0, 3


@final
@dataclass(frozen=True, slots=True)
class Message:
    """A record batch, as its head tells of it.

    Attributes
    ----------
    start : int
        Where what belongs to it begins in the file: dictionaries that came since the last one, too.
    rows : int
    size : int
        The bytes of its body.
    compressed : bool
    dictionaries : bool
        Whether the file had dictionaries up to here.
    """

    start: int
    rows: int
    size: int
    compressed: bool
    dictionaries: bool


def record_batches(source: Any) -> Iterator[Message]:
    """Yield what the heads of all record batches tell, in order.

    Parameters
    ----------
    source : pyarrow.NativeFile
        Of either form, with a footer or without; its position is moved.

    Raises
    ------
    pyarrow.ArrowInvalid
        If the file ends within a message, or this is no message.
    """
    wrong = pyarrow("Arrow files").ArrowInvalid
    size = source.size()
    source.seek(0)
    at = 8 if source.read(len(MAGIC)) == MAGIC else 0
    start, dictionaries = at, False
    while at < size:
        source.seek(at)
        beginning = source.read(8)
        if len(beginning) < 8:
            raise wrong("it ends within a message")
        mark, length = struct.unpack("<II", beginning)
        before = 8
        if mark != _MARK:
            before, length = 4, mark
        if not length:
            return
        source.seek(at + before)
        try:
            head = _Table.root(source.read(length))
            kind, body = head.number(_KIND, "B"), head.number(_BODY, "q")
            batch = head.table(_HEADER)
        except (struct.error, IndexError) as error:
            raise wrong(f"there is no message at byte {at}, or it ends there") from error
        at += before + length + body
        if at > size or body < 0:
            raise wrong("it ends within a message")
        dictionaries |= kind == _DICTIONARY
        if kind == _BATCH:
            rows, packed = batch.number(_ROWS, "q"), batch.has(_COMPRESSED)
            yield Message(start, rows, body, packed, dictionaries)
            start = at
        elif kind != _DICTIONARY:  # the schema
            start = at


@final
@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer: numbers, and tables, at places that a table of offsets tells."""

    data: bytes
    at: int

    @staticmethod
    def root(data: bytes) -> _Table:
        return _Table(data, struct.unpack_from("<I", data)[0])

    def _place(self, field: int) -> int:
        """Return where a field stands; 0 where it has its default."""
        offsets = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        where = 4 + 2 * field
        if where >= struct.unpack_from("<H", self.data, offsets)[0]:
            return 0
        found = struct.unpack_from("<H", self.data, offsets + where)[0]
        return self.at + found if found else 0

    def has(self, field: int) -> bool:
        return self._place(field) != 0

    def number(self, field: int, kind: str) -> int:
        place = self._place(field)
        return struct.unpack_from(f"<{kind}", self.data, place)[0] if place else 0

    def table(self, field: int) -> _Table:
        place = self._place(field)
        return _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0])
