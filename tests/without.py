"""`python without.py PACKAGE,PACKAGE ARGUMENT...`: `ncl-jax ARGUMENT...` as if these were not installed."""

import sys
from importlib.machinery import PathFinder


def hide(packages):
    """Let the import system no longer find these packages."""

    class Without(PathFinder):
        @classmethod
        def find_spec(cls, fullname, path=None, target=None):
            return None if fullname.partition(".")[0] in packages else super().find_spec(fullname, path, target)

    sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]


if __name__ == "__main__":
    hide(frozenset(sys.argv[1].split(",")))
    from ncl_jax.main import main

    sys.exit(main(sys.argv[2:]))
