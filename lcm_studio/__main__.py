"""python -m lcm_studio"""

from lcm_studio.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
