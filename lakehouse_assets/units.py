"""Units of bytes. Prices and budgets are per gigabyte; limits of S3 and of memory are powers of two."""

GB = 10**9
"""Gigabyte."""

GIB = 2**30
"""Gibibyte."""
