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


def read_rows(where: str, open: Callable[[], BinaryIO], titles: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Place ("row 3") of each row, and as text its values in the columns ``titles``, by their keys. The classes of a
    label are those that the Hub's ``datasets`` have noted in the file."""
    with _open(where, open) as file:
        names, row = _class_names(file, titles.get("label", "")), 0
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns=list(titles.values()))
            for scalars in zip(*(part[title] for title in titles.values()), strict=True):
                values: dict[str, Any] = dict(zip(titles, (scalar.as_py() for scalar in scalars), strict=True))
                if isinstance(label := values.get("label"), int) and 0 <= label < len(names):
                    values["label"] = names[label]
                row += 1
                yield f"row {row}", {key: "" if value is None else str(value).strip() for key, value in values.items()}


def columns_of(where: str, open: Callable[[], BinaryIO]) -> dict[str, bool]:
    """Whether each column holds files (bytes, or a struct with a field ``bytes``), by its title."""
    with _open(where, open) as file:
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
            with _open(self.files.where(name), lambda: self.files.open(name)) as file:
                if name not in self.starts:
                    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                    starts = self.starts[name] = [sum(sizes[:number]) for number in range(len(sizes))]
                    group = bisect_right(starts, row) - 1
                self.part = None  # before the next is read
                self.part, self.held = file.read_row_group(group, columns=[title])[title], (name, group)
        value: Any = self.part[row - starts[group]].as_py() if self.part is not None else None
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data or len(data) > MAX_IMAGE_BYTES:
            raise Unreadable(f"{len(data):,} bytes are too many for a face" if data else "holds no picture",
                             "write the file again with the picture's own bytes")
        return io.BytesIO(data)


@contextlib.contextmanager
def _open(where: str, open: Callable[[], BinaryIO]) -> Iterator[Any]:
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
            if known.metadata.num_rows > _MAX_ROWS or any(group.total_byte_size > _MAX_GROUP for group in groups):
                raise FerError(f"{where}: has more than {_MAX_ROWS:,} rows, or {_MAX_GROUP:,} bytes in a row group; "
                               "write it again in smaller files and groups")
            # As dictionaries a value that many rows repeat is in memory once.
            columns = [known.schema.column(number) for number in range(len(known.schema))]
            yield parquet.ParquetFile(file, metadata=known.metadata, read_dictionary=[
                column.path for column in columns if column.physical_type == "BYTE_ARRAY"])
    except (FerError, Unreadable):
        raise
    except Exception as error:  # pyarrow raises many types on damaged files, OSError among them
        raise FerError(f"{where}: the Parquet file is damaged ({error}); {AGAIN}") from error


def _class_names(file: Any, title: str) -> Sequence[str]:
    """The names behind a column of numbers, if the file has them where ``datasets`` writes them."""
    try:
        noted = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        return tuple(map(str, noted["info"]["features"][title]["names"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
