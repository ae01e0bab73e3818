"""Channels that are left out: the branches of a block, the filters of a layer.

| file | what |
|---|---|
| `nodes` | what one step of a forward does with channels |
| `spans` | where the channels of a layer go, as data |
| `region` | what a module does with the layers in it |
| `follow` | where the channels of a layer go, found |
| `seen` | what layers do for one image, and the spans of a model |
| `layer` | a layer of which rows, columns or both are left out |
| `weights` | how a layer is computed, or cut, with some of them |
| `obeying` | which layers obey a site, and what of them runs |
| `energy` | the convolution behind branches, and their energies |
| `branches` | the branches of a network, found |
| `filters` | its filters |
"""
