"""The laboratory of ddmseg: how every figure was made, from raw measurements to pages.

It measures the product from outside and is never imported by it. Each module that measures
has its own command, ``python -m ddmseg_lab.studies.anatomy`` say; tables, studies, pages and
documents are commands of ``ddmseg`` while this package is installed.
"""

STUDIED_MODEL = "hippocampus"
"""The shipped model that ``ddmseg study`` takes: it has real test scans."""
