"""Stages of blocks that keep their input's shape, so that the last of them can be left out.

| file | what |
|---|---|
| `find` | the stages of a model |
| `switch` | a whole block that a unit closes; a norm of which a unit chooses one of two |
"""
