import signal
import sys

from .cli import main

code = main()
for number in (signal.SIGINT, signal.SIGTERM):  # what is left is Python's own end
    signal.signal(number, signal.SIG_IGN)
sys.exit(code)
