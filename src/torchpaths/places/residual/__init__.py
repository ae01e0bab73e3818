"""Residual blocks, ``y = post(shortcut(x) + branch(x))``, whose branches can be closed.

| file | what |
|---|---|
| `find` | the residual blocks of a model |
| `split` | one block taken apart |
| `parts` | its parts as code |
| `place` | how it runs with branches closed |
| `along` | what is left of it along a path |
| `again` | activation checkpointing that it was asked for |
"""
