"""``python -m calib``: the command where the script is not on the path."""

from calib.cli import main

main(prog_name="calib")
