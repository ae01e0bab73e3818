"""The honest meter: `measure` and `measure_all`, the rows they give (`Measurement`) and their `table`.

| file | what |
|---|---|
| `meter` | `measure`, `measure_all` |
| `compare` | networks ready to be called beside the plain one: counted, timed, profiled |
| `batches` | which batches a network that decides is measured on |
| `timing` | paired, interleaved times and the interval of their median |
| `memory` | peak memory of a call |
| `setting` | device, dtype, threads, batch and so on |
| `row` | a row and the table |
"""

from __future__ import annotations

from torchpaths.meter.batches import in_batches
from torchpaths.meter.meter import measure, measure_all
from torchpaths.meter.row import Measurement, table

__all__ = ["Measurement", "in_batches", "measure", "measure_all", "table"]
