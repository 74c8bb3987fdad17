"""`python -m safeload`: the same as the command `safeload`."""

from safeload.cli import main

if __name__ == "__main__":
    main()
