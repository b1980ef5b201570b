"""One file per question; ``ddmseg_lab.study`` says what they share.

``encoded`` puts a subject through a model and ``artefacts`` makes a scan worse. A new question is
one file here and one line in ``ddmseg_lab.questions``.
"""
