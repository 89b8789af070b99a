"""``python -m mixsolve``: the command line."""

from mixsolve.cli import main

raise SystemExit(main())
