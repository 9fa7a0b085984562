"""What must leave a zone, computed a second time from what came in, with nothing of the program's own.

Arguments: a question and the files it is about; the answer is CSV on standard output.
"""

import csv
import sys


def rows(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def plain(number):
    return number.replace(".", "").replace("-", "").replace(" ", "")


def write(table):
    csv.writer(sys.stdout, lineterminator="\n").writerows(table)


def enriched(list_file, register_file):
    """Agreement 1, first step: every row of the list keeps its place; what the register does not know stays empty."""
    register = {row[0]: row[1:] for row in rows(register_file)}
    write([["insz", "eerste_inschrijving", "laatste_inschrijving", "categorie", "status_dienstverlening", "acties", "uitstroom_naar_werk"]])
    write([row + register.get(plain(row[0]), [""] * 6) for row in rows(list_file)[1:]])


def without_first_column(list_file):
    """Agreement 1, second step: everything but the number, which a pseudonym replaces."""
    write([row[1:] for row in rows(list_file)])


def members(list_file, code):
    """Agreement 3: the members of one fund, without the fund."""
    table = rows(list_file)
    write([table[0][:1]])
    write([row[:1] for row in table[1:] if row[1] == code])


def of_counsellor(list_file, label):
    """Agreement 4: the clients of one counsellor, without what says that they are hers."""
    table = rows(list_file)
    keep = [at for at, name in enumerate(table[0]) if name not in ("traject_actief", "trajectbegeleider")]
    write([[table[0][at] for at in keep]])
    write([[row[at] for at in keep] for row in table[1:] if row[3] == label])


def consenting(list_file):
    """Agreement 5: those who consented, without the word that says so."""
    table = rows(list_file)
    write([table[0][:-1]])
    write([row[:-1] for row in table[1:] if row[-1] == "ja"])


sys.stdout.reconfigure(newline="", encoding="utf-8")
globals()[sys.argv[1]](*sys.argv[2:])
