"""Run ComfyUI's main.py with options switched on that its parser does not let stand beside --cpu (--lowvram ...).

python host_forced.py NAME,NAME... ARGUMENTS OF main.py...        in ComfyUI's folder
"""

import argparse
import os
import runpy
import sys

names, sys.argv = sys.argv[1].split(","), ["main.py", *sys.argv[2:]]
_parse = argparse.ArgumentParser.parse_args


def parse_args(self, *given, **options):
    found = _parse(self, *given, **options)
    for name in names:
        if hasattr(found, "cpu"):  # ComfyUI's own parser
            assert hasattr(found, name), f"this ComfyUI has no --{name}"
            setattr(found, name, True)
    return found


argparse.ArgumentParser.parse_args = parse_args
sys.path.insert(0, os.getcwd())
runpy.run_path("main.py", run_name="__main__")
