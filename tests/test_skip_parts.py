"""What skipping is made of: rows in memory order, prices, panels of gates."""

from __future__ import annotations

import itertools

import pytest
import torch

from torchpaths.deciders.gate import Gate
from torchpaths.places.rows import add_rows, put_rows, take_rows
from torchpaths.skips.panel import Panel
from torchpaths.skips.prices import Prices

ORDERS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("other", ORDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_taken_and_put_or_added_back(order: str, other: str, dtype: torch.dtype) -> None:
    x = ORDERS[order](torch.randn(5, 3, 4, 3).to(dtype))
    rows = torch.tensor([0, 2, 3])
    taken = take_rows(x, rows)
    assert torch.equal(taken, x[rows])
    values = ORDERS[other](torch.randn(3, 3, 4, 3).to(dtype))
    if values.shape != taken.shape:
        values = values.transpose(1, 3)
    expected = x.clone()
    expected[rows] += values
    add_rows(x, rows, values)
    assert torch.equal(x, expected)
    expected[rows] = values
    put_rows(x, rows, values)
    assert torch.equal(x, expected)
    put_rows(x, rows, values.double())
    assert torch.equal(x, expected), "in the dtype of what they are put into"


def test_taken_rows_keep_the_memory_order() -> None:
    x = ORDERS["channels last"](torch.randn(5, 3, 4, 6))
    assert take_rows(x, torch.tensor([1, 2])).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("whole", "few", "many", "limit"),
    [
        (8.0, 4.5, 7.5, 7),  # gathering four costs 4.5, seven 7.5: always worth it
        (8.0, 5.0, 11.0, 5),  # 2 for each further image: six would cost 9
        (8.0, 9.0, 12.0, 3),  # less than half would still pay
        (8.0, 40.0, 46.0, 0),
        (8.0, 5.0, 4.0, 7),  # noise: more images took less time
        (8.0, 9.0, 9.0, 0),
    ],
)
def test_the_limit_is_where_gathering_costs_as_much_as_running_for_all(
    whole: float, few: float, many: float, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {"whole": whole, "4": few, "7": many}
    now = [0.0]

    def spend(what: str) -> None:
        now[0] += taken[what]

    monkeypatch.setattr("torchpaths.skips.prices.time.perf_counter", lambda: now[0])
    prices = Prices()
    for _ in range(2):
        assert prices.limit("kind", 8, lambda: spend("whole"), lambda count: spend(str(count))) == limit


def test_a_panel_scores_as_its_gates_do_also_after_their_weights_changed() -> None:
    gates = [Gate(6, hidden, norm).eval() for hidden, norm in ((4, True), (3, False), (5, True))]
    panel = Panel(gates)
    for seed in range(2):
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in itertools.chain(*(g.parameters() for g in gates)):
                tensor.normal_()
            for gate in gates[::2]:
                assert isinstance(gate.norm, torch.nn.BatchNorm1d)
                gate.norm.running_mean.normal_()  # type: ignore[union-attr]
                gate.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        joined = panel.joined()
        features = torch.randn(7, 6)
        expected = torch.cat([g.fc2(torch.relu(g.norm(g.fc1(features)))) @ g._difference for g in gates], dim=1)
        torch.testing.assert_close(joined(features), expected)
        hidden = joined.hidden(features[:1])
        assert [joined.score(hidden, i) for i in range(3)] == pytest.approx(expected[0].tolist(), rel=1e-4, abs=1e-5)
