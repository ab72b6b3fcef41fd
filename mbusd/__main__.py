"""`python -m mbusd`."""

import sys

from mbusd.cli import main

sys.exit(main())
