"""Where a network can be closed: what is found in a model, and how each such place runs with units closed.

| room | places |
|---|---|
| `residual` | the branches of residual sums |
| `stages` | whole blocks, and norms that depend on whether they run |
| `plan`, `covers` | what a method asks for, and what of the network's cost its sites hold |
| `untouched` | a model as it was |
| `gradients`, `rows` | operations that several places share |

A place knows nothing of who decides.
"""
