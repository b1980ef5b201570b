"""Readers of the data sets: where their files lie and which case is in which split.

A reader lists cases; it opens no image. Every reader is ``NAME.list_cases(root)`` with the
folder that holds all sets; without it, ``DDMSEG_DATA`` names it. All raise ScanError when the
set's folder is absent or holds no case.
"""
