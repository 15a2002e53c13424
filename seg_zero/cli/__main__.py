import sys

from seg_zero.cli.main import main

sys.exit(main())
