"""Coding schemes: a codeword for each class."""
