"""``python -m lcakit.cli``: the command line without the installed script."""

from __future__ import annotations

import sys

from lcakit.cli.main import main

sys.exit(main())
