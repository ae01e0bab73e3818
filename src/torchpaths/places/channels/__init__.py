"""Channels that are left out together: the branches of a block.

| file | what |
|---|---|
| `spans` | where the channels of a layer go |
| `layer` | a layer of which rows or columns are left out |
| `energy` | the convolution behind branches, and their energies |
| `branches` | the branches of a network, found; and what their parts cost |
"""
