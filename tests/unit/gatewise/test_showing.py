"""What the commands print."""

from __future__ import annotations

import pytest
from rich.table import Table

from gatewise.commands.showing import print_table


@pytest.mark.parametrize("cell", ["label [/x] is wrong", "[red]", ":warning:"])
def test_a_cell_is_printed_as_it_is(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("result")
    table.add_row(cell)
    print_table(table)
    assert cell in capsys.readouterr().out
