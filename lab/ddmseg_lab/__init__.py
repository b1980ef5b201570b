"""The laboratory of ddmseg: how every figure was made, from raw measurements to pages.

It measures the product from outside and is never imported by it. Each module that measures
has its own command, ``python -m ddmseg_lab.accuracy.anatomy`` say; tables, studies, pages and
documents are commands of ``ddmseg`` while this package is installed.
"""
