"""``skipping(net)``: the same answers, and only opened work is done.

| file | what |
|---|---|
| `network` | `skipping` and the network it makes |
| `call` | a call that knows what the last junction gave |
| `residual` | a residual block that runs its branches for the images that open them |
| `exits` | a call that images leave early |
| `channels` | a layer that computes what a single image opens |
| `folded` | its weights, with the norm behind it |
| `singly` | a batch whose images close channels of their own |
| `doors` | where they may, tried out |
| `panel` | several gates as one |
| `direct` | layers called past the search for hooks |
| `prices` | from how many images on gathering does not pay |
"""
