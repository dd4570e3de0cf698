"""An old name: `python -m modsearch.evaluate` is `python -m modsearch.evaluation`."""

if __name__ != "__main__":
    # As a module it would take the place of the function `modsearch.evaluate`.
    raise ImportError("`modsearch.evaluate` is a function; the package is `modsearch.evaluation`")

from modsearch.evaluation.__main__ import main

main()
