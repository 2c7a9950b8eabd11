"""House rules: every metric is declared once, in one place, on a registry that is passed in."""

import ast
import re
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from meterd.metrics import Metrics

KINDS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
HOME = "meterd/metrics.py"


def declared(tree: ast.Module) -> list[str]:
    """Names of the metrics declared in a module that imports prometheus_client."""
    if not any(
        isinstance(node, ast.ImportFrom | ast.Import) and "prometheus_client" in ast.unparse(node)
        for node in ast.walk(tree)
    ):
        return []
    return [
        ast.unparse(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] in KINDS
    ]


def test_every_metric_is_declared_once_and_in_one_module(modules: list[Any]) -> None:
    by_module = {m.path: declared(m.tree) for m in modules}
    names = by_module.pop(HOME)
    assert len(names) >= 12
    assert len(names) == len(set(names)), names
    elsewhere = {path: found for path, found in by_module.items() if found}
    assert not elsewhere, f"declare it in {HOME}: {elsewhere}"
    assert all(re.fullmatch(r"'meterd_[a-z_]+'", name) for name in names), names


def test_every_metric_is_described_with_when_to_alarm(texts: dict[str, str]) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    names = re.findall(r"^# TYPE (\w+) ", generate_latest(registry).decode(), re.MULTILINE)
    names = [name for name in names if not name.endswith("_created")]
    assert len(names) > 25
    page = texts["docs/operating.md"]
    silent = [name for name in names if not re.search(rf"^\|.*`{name}[{{`]", page, re.MULTILINE)]
    assert not silent, f"say in docs/operating.md what it means and when to alarm: {silent}"


def test_no_metric_is_on_the_global_registry() -> None:
    text = generate_latest(CollectorRegistry()).decode()
    assert "meterd_" not in text
    one, two = CollectorRegistry(), CollectorRegistry()
    Metrics(one).acks.inc()
    Metrics(two)
    assert one.get_sample_value("meterd_acks_total") == 1.0
    assert two.get_sample_value("meterd_acks_total") == 0.0
    from prometheus_client import REGISTRY

    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("meterd_")]
