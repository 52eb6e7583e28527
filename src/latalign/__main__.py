"""``python -m latalign``: the command line."""

from latalign.cli import main

if __name__ == "__main__":
    main()
