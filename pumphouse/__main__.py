"""`python -m pumphouse`."""

from pumphouse.cli import main

main()
