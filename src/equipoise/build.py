"""From a name or a specification to a method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from .core import Method, MethodSpec, Weighting
from .core.names import check_known
from .methods import METHODS
from .wrappers import WRAPPERS


def build_method(method: str | MethodSpec, n_tasks: int, **kwargs: Any) -> Method:
    """The balancing method of a name, with its hyper-parameters.

    `build_method("go4align", 3, groups=2)`, `build_method("nashmtl+every:steps=10", 3)` and
    `build_method(MethodSpec("famo", {"lr": 0.01}), 3)` all work; `kwargs` go to the method itself, after
    those of the specification. `equipoise methods` lists the names.

    Args:
        method: a key of `METHODS`, the text form of a specification, or a specification.
        n_tasks: the number of tasks m.
        **kwargs: hyper-parameters of the method.

    Returns:
        The method, with its wrappers around it.

    Raises:
        ValueError: on an unknown name or hyper-parameter (the nearest one is named), or a value out of range.
        TypeError: if a wrapper is put around a method that returns no weights.
    """
    spec = MethodSpec.parse(method) if isinstance(method, str) else method
    check_spec(spec)
    check_keywords(spec.name, METHODS[spec.name], kwargs)
    built = METHODS[spec.name](n_tasks, **{**spec.kwargs, **kwargs})
    for name, options in spec.wrappers:
        wrap: Any = WRAPPERS[name]
        built = wrap(built, **options)
    return built


def check_spec(spec: MethodSpec) -> None:
    """Refuse unknown methods, wrappers and hyper-parameters, naming the nearest one."""
    check_known("A method", spec.name, METHODS)
    check_keywords(spec.name, METHODS[spec.name], spec.kwargs)
    for name, options in spec.wrappers:
        check_known("A wrapper", name, WRAPPERS)
        check_keywords(name, WRAPPERS[name], options)


def hyper_parameters(cls: type[Method]) -> dict[str, inspect.Parameter]:
    """The hyper-parameters of a method or wrapper by name, without the tasks or the base."""
    parameters = list(inspect.signature(cls).parameters.values())[1:]
    return {parameter.name: parameter for parameter in parameters}


def check_keywords(name: str, cls: type[Method], given: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters that a method or wrapper does not have."""
    for keyword in given:
        check_known(f"A hyper-parameter of {name}", keyword, hyper_parameters(cls))


__all__ = ["METHODS", "WRAPPERS", "MethodSpec", "Weighting", "build_method", "check_spec", "hyper_parameters"]
