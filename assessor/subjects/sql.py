"""The rows that a query of a database gives, as a table: read once, in order, in a transaction that only reads."""

from __future__ import annotations

import datetime
import decimal
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from assessor.errors import UsageError
from assessor.model import SqlSpec
from assessor.subjects.extras import require
from assessor.subjects.tables import Table, rows_a_part, table_of_stream

READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON",),
    "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",),
    "mysql": ("SET TRANSACTION READ ONLY",),
    "mariadb": ("SET TRANSACTION READ ONLY",),
    "oracle": ("SET TRANSACTION READ ONLY",),
}
"""What makes a database refuse to write, by SQLAlchemy's name of it."""


def table_of_query(spec: SqlSpec, field: str, where: str) -> Table:
    """The query's rows, kept in a temporary file, so that every check sees the same.

    Args:
        spec: Where the database is, and the query.
        field: The configuration field.
        where: How messages call the table.

    Returns:
        The table.

    Raises:
        UsageError: The variable is not set, the database cannot be reached or made to read only, or the query fails.
    """
    require("sqlalchemy", "sql", field)
    import sqlalchemy
    from sqlalchemy import exc

    secret = os.environ.get(spec.url_env)
    if not secret:
        raise UsageError(
            f"{field}.url_env: the environment variable {spec.url_env} is not set; wanted a URL as SQLAlchemy takes it"
        )
    try:
        url = sqlalchemy.make_url(secret)
        if url.get_backend_name() not in READ_ONLY:
            raise UsageError(
                f"{field}: {url.get_backend_name()} cannot be made to read only; wanted one of "
                f"{', '.join(READ_ONLY)}, or a parquet file of the rows"
            )
        engine = sqlalchemy.create_engine(url, hide_parameters=True, poolclass=sqlalchemy.pool.NullPool)
    except exc.ArgumentError:
        raise UsageError(f"{field}.url_env: {spec.url_env} holds no URL as SQLAlchemy takes it") from None
    except ImportError as fault:
        raise UsageError(f"{field}: no driver for this database: {fault}") from fault
    try:
        return table_of_stream(_frames(engine, spec.query), where)
    except exc.SQLAlchemyError as fault:
        told = str(getattr(fault, "orig", None) or fault)
        raise UsageError(f"{field}: {type(fault).__name__}: {_without(told, url.password)}") from None


def _frames(engine: Any, query: str) -> Iterator[pd.DataFrame]:
    """Parts of rows; nothing is ever committed."""
    import sqlalchemy

    with engine.connect() as connection:
        for statement in READ_ONLY[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        text = sqlalchemy.text(re.sub(r"(?<!:):(?=\w)", r"\:", query))  # no parameters in it
        found = connection.execution_options(stream_results=True).execute(text)
        columns, empty = list(map(str, found.keys())), True
        for rows in found.partitions(rows_a_part(64 * len(columns))):
            empty = False
            yield _frame(rows, columns)
        if empty:
            yield pd.DataFrame(columns=columns)
        connection.rollback()


def _frame(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    by_column = zip(*rows, strict=True)
    return pd.DataFrame({name: _column(values) for name, values in zip(columns, by_column, strict=True)})


def _column(values: Sequence[Any]) -> pd.Series:
    """Numbers, booleans or texts, as a csv of the rows would hold them; missing where the database has NULL."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float, decimal.Decimal} and (None in values or kinds != {int}):
        return pd.Series([None if value is None else float(value) for value in values], dtype="float64")
    if kinds == {int}:
        return pd.Series(values)
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if None in values else "bool")
    return pd.Series([None if value is None else _text(value) for value in values], dtype="str")


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def _without(told: str, password: str | None) -> str:
    return told.replace(password, "***") if password else told
