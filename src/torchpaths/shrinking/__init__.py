"""A network made smaller for good, within a budget.

| file | what |
|---|---|
| `close` | which units to close, one after the other |
| `targets` | what share of images each block should run for, where gates decide |
| `job` | choose, train, cut and compare |
"""
