"""Specifications and building by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import equipoise as eq
from equipoise.methods.go4align import GO4Align
from equipoise.wrappers import Every, Grouped


def test_parse_and_build() -> None:
    method = eq.build_method("go4align:groups=3:step=1e-2", 5)
    assert isinstance(method, GO4Align)
    assert (method.grouping.groups, method.step) == (3, 0.01)
    wrapped = eq.build_method("nashmtl:max_norm=0+grouped:groups=2+every:steps=4", 5)
    assert isinstance(wrapped, Every)
    assert isinstance(wrapped.base, Grouped)
    assert (wrapped.steps, wrapped.base.grouping.groups) == (4, 2)
    assert eq.MethodSpec.parse("constant:weights=[1, 2]").kwargs == {"weights": [1, 2]}
    assert eq.MethodSpec.parse("famo:lr=1e+1+ema").kwargs == {"lr": 10.0}


def test_keywords_join_the_specification() -> None:
    assert eq.build_method("go4align", 5, groups=4).grouping.groups == 4  # type: ignore[union-attr]


values = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.integers()),
    st.text(max_size=5),
    st.sampled_from(["IC50 (nM): a+b=c", "1", "true", ' a "b" \\', "a+b:c", "nan", '"\\']),
)
keywords = st.dictionaries(st.from_regex("[a-z][a-z_]{0,8}", fullmatch=True), values, max_size=3)
names = st.from_regex("[a-z][a-z0-9_]{0,8}", fullmatch=True)


@given(names, keywords, st.lists(st.tuples(names, keywords), max_size=2))
def test_json_and_label_go_both_ways(
    name: str, kwargs: dict[str, object], wrappers: list[tuple[str, object]]
) -> None:
    spec = eq.MethodSpec(name, kwargs, tuple(wrappers))  # type: ignore[arg-type]
    assert eq.MethodSpec.from_json(spec.to_json()) == spec
    assert eq.MethodSpec.parse(spec.label) == spec


def test_text_is_quoted_only_where_it_would_be_read_as_something_else() -> None:
    labels = {task: eq.MethodSpec("stl", {"task": task}).label for task in ("mu", "p/q, r", "1", "IC50: a+b")}
    assert list(labels.values()) == ["stl:task=mu", "stl:task=p/q, r", 'stl:task="1"', 'stl:task="IC50: a+b"']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nashmlt", "A method should be one of .* Found 'nashmlt'. Did you mean 'nashmtl'"),
        (
            "ls+groupd",
            "A wrapper should be one of grouped, every, ema, clip_norm, log_losses. Found 'groupd'. Did you mean",
        ),
        (
            "go4align:group=2",
            "hyper-parameter of go4align should be one of groups.*Found 'group'. Did you mean 'groups'",
        ),
        ("ls:x=1", "hyper-parameter of ls should be one of none. Found 'x'"),
        ("go4align:groups", "hyper-parameter should look like 'groups=5'. Found 'groups'"),
        ("Go4Align!", "A method should look like"),
        ("", "A method should have a name"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eq.build_method(text, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("go4align:groups=4", "`groups` should be from 1 to the number of tasks, 3. Found 4"),
        ("go4align:groups=0", "`groups` should be from 1 to the number of tasks, 3. Found 0"),
        ("nashmtl+grouped:groups=9", "`groups` should be from 1 to the number of tasks, 3. Found 9"),
        ("go4align:step=-1", "`step` should be at least 0. Found -1"),
        ("go4align:decay=2", "`decay` should be from 0 to 1. Found 2"),
        (
            "go4align:clustering=spectrl",
            "`clustering` should be one of kmeans, spectral, sdp, .*, random, shuffled, none. Found 'spectrl'",
        ),
        ("go4align:assignment=[0,1,1]", r'`assignment` should be set with clustering="given" and only then'),
        ("go4align:clustering=given", r'`assignment` should be set with clustering="given" and only then'),
        ("go4align:clustering=given:assignment=[0,0,0]", r"leave no group empty. Found \[0, 0, 0\]"),
        (
            "go4align:group_weights=[1]",
            r"`group_weights` should be 2 numbers that are not negative. Found \[1\]",
        ),
        ("famo:lr=-1", "`lr` should be at least 0. Found -1"),
        ("famo:weight_decay=-1", "`weight_decay` should be at least 0"),
        ("dwa:window=0", "`window` should be at least 1. Found 0"),
        ("dwa:temperature=0", "`temperature` should be above 0. Found 0"),
        ("mgda:normalization=l2", r"`normalization` should be one of none, norm, loss, loss\+. Found 'l2'"),
        ("pcgrad:order=up", "`order` should be one of random, identity"),
        ("pcgrad:reduction=max", "`reduction` should be one of sum, mean"),
        ("graddrop:max_norm=-1", "`max_norm` should be at least 0"),
        ("nashmtl:max_norm=-1", "`max_norm` should be at least 0"),
        ("cagrad:c=-0.1", "`c` should be at least 0. Found -0.1"),
        ("imtl_g:tolerance=-1", "`tolerance` should be at least 0"),
        ("stl:task=3", "`task` should be from 0 to 2. Found 3"),
        (
            "constant:weights=[1,2]",
            r"`weights` should be 3 finite numbers, none negative and not all 0. Found \[1, 2\]",
        ),
        ("constant:weights=[0,0,0]", "not all 0"),
        ("ls+every:steps=0", "`steps` should be at least 1. Found 0"),
        ("ls+ema:decay=1", "`decay` should be at least 0 and below 1. Found 1"),
        ("ls+clip_norm:max_norm=0", "`max_norm` should be above 0. Found 0"),
        ("uw+ema", "`base` should have no weights that learn under EMA.*Found log_variances in UW"),
        ("uw+every", "no weights that learn under Every"),
        ("uw+grouped", "no weights that learn under Grouped"),
    ],
)
def test_bad_hyper_parameters(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eq.build_method(text, 3)


def test_no_tasks_and_a_wrapped_aggregator() -> None:
    with pytest.raises(ValueError, match="`n_tasks` should be at least 1. Found 0"):
        eq.build_method("ls", 0)
    with pytest.raises(
        TypeError, match="`base` should be a method that returns task weights. Found GradDrop"
    ):
        eq.build_method("graddrop+ema", 3)
