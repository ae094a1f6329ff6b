"""What `legal` returns is taken by MLflow itself, and no two names become one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.track.names import legal

NAMES = st.text(alphabet=st.one_of(st.sampled_from("ab1_-./ @=():"), st.characters()), max_size=300)


@pytest.mark.parametrize(
    "name", ["test/acc", "train/loss", "knob/token_drop", "a.b-c d", "x" * 250]
)
def test_what_mlflow_takes_is_kept(name: str) -> None:
    assert legal(name) == name


@given(NAMES)
def test_mlflow_takes_every_legal_name(name: str) -> None:
    from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

    _validate_metric_name(legal(name))
    _validate_length_limit("name", 250, legal(name))


@given(st.sets(NAMES, min_size=2, max_size=8))
def test_names_stay_apart(names: set[str]) -> None:
    assert len({legal(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "one, other",
    [("acc@1", "acc=1"), ("acc@1", "acc_1"), ("a//b", "a/b"), ("../a", "_/a"), ("..a", "_a")],
)
def test_neighbours_stay_apart(one: str, other: str) -> None:
    assert legal(one) != legal(other)
    assert legal(one).split("-")[0] == legal(other).split("-")[0]
