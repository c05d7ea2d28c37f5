"""`python -m devcluster`: the same as the console script."""

from devcluster.cli import main

if __name__ == "__main__":
    main()
