"""Tables of evidence: each row a settings file, trained, tested and recorded on its own.

``plan`` reads a folder of rows, ``row`` trains and tests one of them, ``predict`` is how,
``record`` keeps what came out, ``table`` compares the rows and ``table_page`` shows them.
"""
