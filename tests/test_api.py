"""What the description of the API says of each setting, against what is done with it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from basic_transcribe import api

TOGETHER = {"strength": {"quantize": "1/16"}, "swing": {"quantize": "1/16"}, "scale_mode": {"scale": "C major"}}
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def order(name: str, value: object) -> api.Order:
    return api.read_order(urlencode({name: value, **TOGETHER.get(name, {})}), "")


def bounds() -> list[Any]:
    return [
        pytest.param(name, kind, schema[kind], id=f"{name} {kind}")
        for name, schema in api._SCHEMAS.items()
        for kind in BOUNDS
        if kind in schema
    ]


@pytest.mark.parametrize(("name", "kind", "bound"), bounds())
def test_bounds_are_those_that_are_told(name: str, kind: str, bound: float) -> None:
    step = 1 if api.settings()[name][0] is int else 0.001
    outwards = step if kind.lower().endswith("maximum") else -step
    exclusive = kind.startswith("exclusive")
    order(name, bound - outwards if exclusive else bound)
    with pytest.raises(api.Problem) as refused:
        order(name, bound if exclusive else bound + outwards)
    assert refused.value.status == 422
    assert name in refused.value.detail


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, schema in api._SCHEMAS.items() for value in schema.get("enum", ())]
)
def test_words_are_those_that_are_told(name: str, value: str) -> None:
    order(name, value)
    with pytest.raises(api.Problem) as refused:
        order(name, value + "x")
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, schema in api._SCHEMAS.items() for value in schema.get("examples", ())]
)
def test_examples_are_right(name: str, value: str) -> None:
    order(name, value)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("channel", ["mix", "left", "1", "01", "64"], ["0", "00", "-1", "middle", "1.5", "¹"]),
        ("velocity_range", ["40-100", "80", "80-", "01-127"], ["-80", "a", "4 0", "40-100-", "40–100"]),
        ("start", ["5", "1:30", "1:02:03.5", "0."], [".5", "1:2:3:4", "-1", "1:", "1 "]),
    ],
)
def test_patterns_are_those_that_are_told(name: str, right: list[str], wrong: list[str]) -> None:
    pattern = api._SCHEMAS[name]["pattern"]
    for value in right:
        order(name, value)
        assert re.search(pattern, value)
    for value in wrong:
        with pytest.raises(api.Problem):
            order(name, value)
        assert not re.search(pattern, value)


def test_every_setting_that_is_described_is_one() -> None:
    assert set(api._SCHEMAS) <= set(api.settings())
