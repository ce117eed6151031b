"""`python -m torchvice.cli` is `vice`."""

from torchvice.cli.app import main

main()
