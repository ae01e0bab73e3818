"""A network made smaller for good, within a budget.

| file | what |
|---|---|
| `close` | which units to close, one after the other |
| `job` | choose, train, cut and compare |
"""
