"""`python -m service` is the command `eye2face`."""

from service.cli.main import main

main()
