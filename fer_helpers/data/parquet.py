"""Reads Parquet files row group by row group: tables of pictures, and pictures that lie in the file itself, as those of
the Hugging Face Hub do. Needs the "parquet" extra."""

from __future__ import annotations

import contextlib
import io
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from ..files import MAX_JSON, FerError, explain_os_errors, needs_extra
from .containers import AGAIN, Files
from .image_files import MAX_IMAGE_BYTES, Unreadable

_MAX_ROWS, _MAX_GROUP = 1_000_000, 512 << 20  # rows of a file; bytes of a row group, which is held in memory
_MAX_TEXT = 4096  # characters of a path, label or person
_DELTAS = 7  # the encoding in which a byte may repeat all of the value before
_TOO_LARGE = (f"has more than {_MAX_ROWS:,} rows, or {_MAX_GROUP:,} bytes in a row group; write it again in smaller "
              "files and groups")


def read_rows(where: str, open: Callable[[], BinaryIO], titles: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Place ("row 3") of each row, and as text its values in the columns ``titles``, by their keys. The classes of a
    label are those that the Hub's ``datasets`` have noted in the file."""
    with _open(where, open) as (file, stream):
        names, row, known = _class_names(file, titles.get("label", "")), 0, dict[str, str]()
        for group in range(file.num_row_groups):
            part = _read_group(where, file, stream, group, list(titles.values()))
            for scalars in zip(*(part[title] for title in titles.values()), strict=True):
                values: dict[str, Any] = dict(zip(titles, (scalar.as_py() for scalar in scalars), strict=True))
                if isinstance(label := values.get("label"), int) and 0 <= label < len(names):
                    values["label"] = names[label]
                row += 1
                texts = {key: "" if value is None else str(value).strip() for key, value in values.items()}
                if longest := next((key for key, text in texts.items() if len(text) > _MAX_TEXT), ""):
                    raise FerError(f"{where}: row {row}: the {longest} has {len(texts[longest]):,} characters, where "
                                   "a name is expected; correct the column")
                yield f"row {row}", {key: known.setdefault(text, text) for key, text in texts.items()}


def columns_of(where: str, open: Callable[[], BinaryIO]) -> dict[str, bool]:
    """Whether each column holds files (bytes, or a struct with a field ``bytes``), by its title."""
    with _open(where, open) as (file, _):
        return {field.name: str(field.type).startswith(("struct<bytes: ", "dictionary<values=binary"))
                for field in file.schema_arrow}


class StoredFiles:
    """Files in a column of Parquet files of a source, of which one row group at a time is in memory."""

    def __init__(self, files: Files) -> None:
        self.files, self.held, self.part = files, ("", -1), None
        self.starts: dict[str, list[int]] = {}

    def open(self, name: str, title: str, row: int) -> BinaryIO:
        """The file in ``row`` of column ``title`` of the Parquet file ``name``; `Unreadable` if there is none."""
        starts = self.starts.get(name, [0])
        if self.held != (name, group := bisect_right(starts, row) - 1) or name not in self.starts:
            with _open(where := self.files.where(name), lambda: self.files.open(name)) as (file, stream):
                if name not in self.starts:
                    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                    starts = self.starts[name] = [sum(sizes[:number]) for number in range(len(sizes))]
                    group = bisect_right(starts, row) - 1
                self.part = None  # before the next is read
                self.part, self.held = _read_group(where, file, stream, group, [title])[title], (name, group)
        value: Any = self.part[row - starts[group]].as_py() if self.part is not None else None
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data or len(data) > MAX_IMAGE_BYTES:
            raise Unreadable(f"{len(data):,} bytes are too many for a face" if data else "holds no picture",
                             "write the file again with the picture's own bytes")
        return io.BytesIO(data)


@contextlib.contextmanager
def _open(where: str, open: Callable[[], BinaryIO]) -> Iterator[tuple[Any, BinaryIO]]:
    with needs_extra("parquet"):
        import pyarrow.parquet as parquet
    try:
        with explain_os_errors(where, "reading"):
            stream = open()
        with stream as file:
            if not file.seekable():
                raise FerError(f"{where}: is too large to be read in an archive; unpack it and choose the folder")
            known = parquet.ParquetFile(file, thrift_string_size_limit=MAX_JSON, thrift_container_size_limit=_MAX_ROWS)
            groups = [known.metadata.row_group(number) for number in range(known.num_row_groups)]
            if (sum(abs(group.num_rows) for group in groups) > _MAX_ROWS
                    or any(group.total_byte_size > _MAX_GROUP for group in groups)):
                raise FerError(f"{where}: {_TOO_LARGE}")
            # As dictionaries a value that many rows repeat is in memory once.
            columns = [known.schema.column(number) for number in range(len(known.schema))]
            yield parquet.ParquetFile(file, metadata=known.metadata, read_dictionary=[
                column.path for column in columns if column.physical_type == "BYTE_ARRAY"]), file
    except (FerError, Unreadable):
        raise
    except Exception as error:  # pyarrow raises many types on damaged files, OSError among them
        raise FerError(f"{where}: the Parquet file is damaged ({error}); {AGAIN}") from error


def _read_group(where: str, file: Any, stream: BinaryIO, number: int, titles: list[str]) -> Any:
    """The columns ``titles`` of a row group. A page is unpacked to the size in its own header, whatever the metadata at
    the end of the file say, so those of all pages are added up first."""
    group, size = file.metadata.row_group(number), 0
    for place in range(group.num_columns):
        column, count = group.column(place), 0
        if not any(f"{column.path_in_schema}.".startswith(f"{title}.") for title in titles):
            continue
        start = min(filter(None, (column.data_page_offset, column.dictionary_page_offset)), default=0)
        end = start + column.total_compressed_size
        while start < end:
            stream.seek(start)
            header = _thrift_struct(stream)  # PageHeader of parquet.thrift: kind, bytes unpacked, bytes packed, …
            page = header.get({0: 5, 2: 7, 3: 8}.get(header[1], 0), {})  # … data, dictionary, data in version 2
            count, size = count + max(0, page.get(1, 0)), size + max(0, header[2])
            if page.get(4 if header[1] == 3 else 2) == _DELTAS:
                raise FerError(f"{where}: {column.path_in_schema} is in the encoding DELTA_BYTE_ARRAY, of which little "
                               "can become much; write it again in the usual one")
            # A value of fixed length is unpacked once more for each of its rows; of others a number stands for it.
            width = file.schema.column(place).length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
            if count > 2 * _MAX_ROWS or size + count * width > _MAX_GROUP:
                raise FerError(f"{where}: {_TOO_LARGE}")
            start = stream.tell() + max(0, header[3])
    return file.read_row_group(number, columns=titles)


def _thrift_struct(stream: BinaryIO, depth: int = 0) -> dict[int, Any]:
    """A struct in Thrift's compact protocol: whole numbers and structs by the numbers of their fields."""
    fields, number = dict[int, Any](), 0
    while head := _byte(stream):
        number = number + (head >> 4) if head >> 4 else _zigzag(stream)
        fields[number] = _thrift_value(stream, head & 15, depth)
    return fields


def _thrift_value(stream: BinaryIO, kind: int, depth: int) -> Any:
    if kind in (1, 2):  # true and false are told by the kind
        return None
    if kind in (3, 7):  # a byte, a double
        stream.seek({3: 1, 7: 8}[kind], io.SEEK_CUR)
        return None
    if kind in (4, 5, 6):
        return _zigzag(stream)
    if kind == 8:
        stream.seek(_varint(stream), io.SEEK_CUR)
        return None
    if kind == 12 and depth < 8:
        return _thrift_struct(stream, depth + 1)
    raise ValueError("a header of a page that is none")  # they have no lists and maps


def _byte(stream: BinaryIO) -> int:
    return stream.read(1)[0]


def _varint(stream: BinaryIO) -> int:
    value = 0
    for place in range(0, 70, 7):
        byte = _byte(stream)
        value |= (byte & 127) << place
        if byte < 128:
            return value
    raise ValueError("a number without end")


def _zigzag(stream: BinaryIO) -> int:
    value = _varint(stream)
    return value >> 1 ^ -(value & 1)


def _class_names(file: Any, title: str) -> Sequence[str]:
    """The names behind a column of numbers, if the file has them where ``datasets`` writes them."""
    try:
        noted = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        return tuple(map(str, noted["info"]["features"][title]["names"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
