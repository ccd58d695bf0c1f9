"""Tables of rows: to read, and to select from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import pyarrow as pa
import streamlit as st


def _rows(rows: Sequence[Any]) -> pa.Table:
    """An Arrow table is what is sent in the end; going there by way of a data frame takes ten times as long."""
    return pa.Table.from_pylist([
        asdict(row) if is_dataclass(row) and not isinstance(row, type) else dict(row) for row in rows
    ])  # fmt: skip


def table(rows: Sequence[Any], columns: dict[str, Any], alt: str, height: int | Literal["auto"] = "auto") -> None:
    """A table of dataclasses or dicts with just the `columns` given."""
    st.dataframe(
        _rows(rows), hide_index=True, column_config=columns, column_order=list(columns), width="stretch",
        height=height, placeholder="–", alt=alt,
    )  # fmt: skip


def picker(
    rows: Sequence[Any], ids: Sequence[str], columns: dict[str, Any], key: str, alt: str, *, many: bool = False
) -> list[str]:
    """A table whose rows can be selected; returns the ids of the selected ones.

    A selection arrives as positions in what was sent last, so those ids are kept for `picked`.
    """
    st.session_state[f"_{key}_ids"] = list(ids)
    st.dataframe(
        _rows(rows), key=_widget_key(key), hide_index=True, column_config=columns, column_order=list(columns),
        width="stretch", placeholder="–", alt=alt, on_select="rerun",
        selection_mode="multi-row" if many else "single-row",
    )  # fmt: skip
    return picked(key)


def picked(key: str) -> list[str]:
    """The ids selected in the `picker` of that key, as of the list last sent to this viewer."""
    state = st.session_state.get(_widget_key(key))
    ids = st.session_state.get(f"_{key}_ids", [])
    positions = state["selection"]["rows"] if state else []
    return [ids[position] for position in positions if position < len(ids)]


def unpick(key: str) -> None:
    """Select nothing in the `picker` of that key any more."""
    # The browser remembers the selection of a widget; under another key it is another widget.
    st.session_state[f"_{key}_turn"] = st.session_state.get(f"_{key}_turn", 0) + 1
    st.session_state.pop(f"_{key}_ids", None)


def _widget_key(key: str) -> str:
    return f"{key}_{st.session_state.get(f'_{key}_turn', 0)}"
