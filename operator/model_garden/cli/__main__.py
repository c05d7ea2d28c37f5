"""``python -m model_garden.cli``."""

from model_garden.cli import main

if __name__ == "__main__":
    main()
