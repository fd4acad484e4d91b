"""Write pages of CSV as a Parquet file, in which every column is text.

pyarrow comes with the extra ``export``.
"""

from __future__ import annotations

import csv
import io
from typing import IO, TYPE_CHECKING, Any

try:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet
except ModuleNotFoundError:  # The command reports it: other formats need no pyarrow.
    HAS_PARQUET = False
else:
    HAS_PARQUET = True

if TYPE_CHECKING:
    from types import TracebackType


class ParquetFile:
    """Writes each page as a row group. The first page begins with the columns' names.

    Args:
        file: The file, open for writing. The caller closes it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer: Any = None

    def __enter__(self) -> ParquetFile:
        """Return the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the end of the file."""
        if self._writer is not None:
            self._writer.close()

    def write(self, body: bytes, /) -> None:
        """Write one page."""
        if self._writer is None:
            header, _, body = body.partition(b"\n")
            names = next(csv.reader([header.decode()]))
            schema = pa.schema([(name, pa.string()) for name in names])
            self._writer = parquet.ParquetWriter(self._file, schema)
        schema = self._writer.schema
        if not body:
            self._writer.write_table(schema.empty_table())
            return
        table = arrow_csv.read_csv(
            io.BytesIO(body),
            arrow_csv.ReadOptions(column_names=schema.names, use_threads=False),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=schema, strings_can_be_null=False),
        )
        self._writer.write_table(table)
