"""LCM Studio in the browser: `python app.py`, then open the address that it prints."""

import sys

from lcm_studio.web.flags import main

if __name__ == "__main__":
    sys.exit(main())
