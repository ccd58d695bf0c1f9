"""`python -m fleetq_core` is `fleetq`."""

from .cli import main

if __name__ == "__main__":
    main()
