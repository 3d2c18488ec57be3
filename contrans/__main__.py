"""`python -m contrans` is `contrans`."""

from contrans.cli import main

main()
