"""`python -m contrans` is `contrans`."""

from contrans.cli import main

if __name__ == "__main__":
    main()
