"""Who is an operator, a viewer or nobody, by the address alone."""

from __future__ import annotations

import pytest

from fleetq_core.access import Access, access_of

OPERATORS, VIEWERS = ("ann@example.com", "*@ops.example.com"), ("*@example.com", "eve@elsewhere.org")


@pytest.mark.parametrize(
    ("address", "access"),
    [
        ("ann@example.com", Access.OPERATOR),
        ("ANN@Example.COM", Access.OPERATOR),
        ("anyone@ops.example.com", Access.OPERATOR),
        ("bob@example.com", Access.VIEWER),
        ("eve@elsewhere.org", Access.VIEWER),
        ("bob@elsewhere.org", Access.NONE),
        ("ann@example.com.evil.org", Access.NONE),
        ("ann@evil.org@example.com", Access.VIEWER),  # the last @ counts, as for a mail server
        ("bob@notexample.com", Access.NONE),
        ("bob@sub.example.com", Access.NONE),
        ("*@example.com", Access.VIEWER),
        ("@example.com", Access.NONE),
        ("example.com", Access.NONE),
        ("", Access.NONE),
    ],
)
def test_access_by_address(address: str, access: Access) -> None:
    assert access_of(address, OPERATORS, VIEWERS) is access


def test_nobody_is_named_by_nothing_and_everybody_by_a_star() -> None:
    assert access_of("ann@example.com", (), ()) is Access.NONE
    assert access_of("ann@example.com", (), ("*",)) is Access.VIEWER
    assert access_of("ann@example.com", ("*",), ()) is Access.OPERATOR
    assert access_of("no address", ("*",), ("*",)) is Access.NONE
