"""The real nnU-Net v2 as a row of a table, driven in an environment of its own.

``raw_data`` lays out its data set, ``driver`` is what runs there, and ``adapter`` runs it stage by
stage, its training cut to the length of the other rows.

Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; nnunetv2, Apache-2.0.
"""
