"""Codewords for classes: which units work for which class, chosen so that the classes differ as much as possible.

Coded ResNeXt (Avranas and Kountouris, NeurIPS 2022, section 3.2.1) gives each class a word of as many bits as a block
has branches. A table of words, one for each class, is a coding scheme. This package makes schemes and says how good
they are, with NumPy alone, so that the command answers quickly; `decode` reads classes from a network that is coded.
"""
