"""`python -m medvl` is the `medvl` command."""

from medvl.cli.main import main

raise SystemExit(main())
