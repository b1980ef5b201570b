"""``python -m ddmseg``, the form that ``torchrun -m ddmseg train ...`` needs."""

import sys

from ddmseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
