"""What the drivers share: each step becomes an answer, also one that failed."""

import json
import sys


def settings():
    return json.loads(sys.argv[-1])


def answer(result):
    return {"ok": True, "text": "" if result is None else str(result)}


def failure(error):
    return {"ok": False, "text": f"{type(error).__name__}: {error}"}


def tell(answers):
    json.dump(answers, sys.stdout)
    sys.stdout.flush()
