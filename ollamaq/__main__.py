"""``python -m ollamaq``."""

from ollamaq.cli import main

if __name__ == "__main__":
    main()
