"""Tables of evidence: each row a settings file, trained, tested and recorded on its own.

``plan`` reads a folder of rows, ``row`` trains and tests one of them, ``predict`` and
``scoring`` are how, ``record`` keeps what came out, ``table`` compares the rows.
"""
