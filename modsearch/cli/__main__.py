"""`python -m modsearch.cli` is the command line."""

from modsearch.cli.app import main

if __name__ == "__main__":
    main()
