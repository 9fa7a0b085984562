"""Opens a passphrase-locked age file at a terminal of its own: age asks there and nowhere else.

Arguments: the locked file, where the plaintext goes. The passphrase comes on standard input.
"""

import os
import pty
import sys

passphrase = sys.stdin.readline().rstrip("\n")
child, terminal = pty.fork()
if child == 0:
    os.execvp("age", ["age", "-d", "-o", sys.argv[2], sys.argv[1]])

asked = b""
try:
    while b"assphrase" not in asked:
        asked += os.read(terminal, 1024)
    os.write(terminal, passphrase.encode() + b"\n")
    while os.read(terminal, 1024):
        pass
except OSError:
    pass  # The terminal goes with the program that had it.
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
