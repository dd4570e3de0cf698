"""Texts in columns of tables: Parquet, and Arrow as `datasets` keeps it."""

from collections.abc import Iterator
from pathlib import Path

from modsearch.data.text import Form
from modsearch.errors import DataError, first_line, shown

ROWS = 256
"""At once."""
NAME_THE_FIELD = "name the one with the text: --text, or `text` of the source in data.corpus"


def num_batches(path: Path, form: Form) -> int:
    """How many parts of a file can be read apart.

    Raises:
        DataError: it is not what its name says.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if form is Form.PARQUET:
            return int(parquet.ParquetFile(path).num_row_groups)
        return sum(1 for _ in _arrow(path))
    except pa.ArrowException as error:
        raise DataError(f"can't read {path}: {first_line(error)}") from error


def batches_of(
    path: Path, form: Form, field: str, start: int, stop: int | None
) -> Iterator[str | None]:
    """Texts of the parts from one to another.

    Raises:
        DataError: it is not what its name says, or has no column with texts of that name.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if form is Form.PARQUET:
            file = parquet.ParquetFile(path)
            _check(path, field, file.schema_arrow)
            groups = list(range(start, file.num_row_groups if stop is None else stop))
            batches = file.iter_batches(ROWS, row_groups=groups, columns=[field])
        else:
            batches = (
                batch
                for number, batch in enumerate(_arrow(path))
                if number >= start and (stop is None or number < stop)
            )
        for batch in batches:
            _check(path, field, batch.schema)
            yield from batch.column(field).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"can't read {path}: {first_line(error)}") from error


def _arrow(path: Path) -> "Iterator[object]":
    """Batches of a file in either form that Arrow has."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_stream(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        yield from (file.get_batch(number) for number in range(file.num_record_batches))
        return
    yield from reader


def _check(path: Path, field: str, schema: "object") -> None:
    import pyarrow as pa

    assert isinstance(schema, pa.Schema)
    if field not in schema.names:
        raise DataError(
            f"{path} has no column {shown(field)}: it has {', '.join(map(shown, schema.names))}\n"
            f"{NAME_THE_FIELD}"
        )
    kind = schema.field(field).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(f"column {shown(field)} of {path} is no text, but {kind}")
