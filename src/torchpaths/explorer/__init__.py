"""The Path Explorer: a page on which a person sees which units open for which class and image, and changes that.

`explore` writes a survey as one HTML file; ``torchpaths explore RUN`` serves the same page with the model behind it.
The page reads a survey's document and paths, and knows no method: what is drawn follows from how many units a site has
and who decides them.

| file | what |
|---|---|
| `document` | a survey, with a front, as the one document that the page reads |
| `decoded` | of a coded network, what each class is worth cut out |
| `packing` | shares as bytes in text |
| `bundle` | page and document as one file |
| `written` | `explore` |
| `serve` | the page with its model: an HTTP server |
| `answers`, `pictures`, `cutting`, `uploads` | what it answers with |
| `page/` | the page: ES modules, styles, no build step |
"""

from __future__ import annotations

from torchpaths.explorer.written import explore

__all__ = ["explore"]
