"""`python without.py PACKAGE,PACKAGE ARGUMENT...`: `ncl-jax ARGUMENT...` as if these were not installed."""

import sys
from importlib.machinery import PathFinder

HIDDEN = frozenset(sys.argv[1].split(",")) if __name__ == "__main__" else frozenset()


class Without(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in HIDDEN else super().find_spec(fullname, path, target)


if __name__ == "__main__":
    sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
    from ncl_jax.main import main

    sys.exit(main(sys.argv[2:]))
