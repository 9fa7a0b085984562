"""Steps by libcurl, which does what the program `curl` does: one handle, so that it goes on with its connection."""

import os
import sys
import time
import urllib.parse

HERE = sys.path.pop(0)  # Else a file here could be imported in a library's place.
import pycurl  # noqa: E402

sys.path.append(HERE)
import common  # noqa: E402

SETTINGS = common.settings()


def prepared(curl, path):
    # Options only: connections stay.
    curl.reset()
    quoted = urllib.parse.quote(path)
    curl.setopt(pycurl.URL, f"sftp://{SETTINGS['host']}:{SETTINGS['port']}{quoted}")
    curl.setopt(pycurl.USERNAME, SETTINGS["user"])
    curl.setopt(pycurl.SSH_AUTH_TYPES, pycurl.SSH_AUTH_PUBLICKEY)
    curl.setopt(pycurl.SSH_PRIVATE_KEYFILE, SETTINGS["key"])
    curl.setopt(pycurl.SSH_PUBLIC_KEYFILE, SETTINGS["key"] + ".pub")
    curl.setopt(pycurl.SSH_KNOWNHOSTS, SETTINGS["known-hosts"])
    curl.setopt(pycurl.TIMEOUT, 50)


def put(curl, local, remote, resume=False, commands_afterwards=()):
    prepared(curl, remote)
    with open(local, "rb") as source:
        curl.setopt(pycurl.UPLOAD, 1)
        curl.setopt(pycurl.READDATA, source)
        curl.setopt(pycurl.INFILESIZE_LARGE, os.path.getsize(local))
        if resume:
            # `curl -C -`: it asks for the size itself.
            curl.setopt(pycurl.RESUME_FROM_LARGE, -1)
            curl.setopt(pycurl.SEEKFUNCTION, lambda offset, origin: source.seek(offset, origin) and None)
        curl.setopt(pycurl.POSTQUOTE, list(commands_afterwards))
        curl.perform()


def put_with_time(curl, local, remote):
    date = time.strftime("%Y%m%d %H:%M:%S GMT", time.gmtime(os.stat(local).st_mtime))
    put(curl, local, remote, commands_afterwards=[f'mtime "{date}" "{remote}"'])


def put_all(curl, folder, remote):
    for name in sorted(os.listdir(folder)):
        put(curl, os.path.join(folder, name), f"{remote}/{name}")


def get(curl, remote, local):
    prepared(curl, remote)
    curl.setopt(pycurl.OPT_FILETIME, 1)
    with open(local, "wb") as target:
        curl.setopt(pycurl.WRITEDATA, target)
        curl.perform()


def get_with_time(curl, remote, local):
    get(curl, remote, local)
    seconds = curl.getinfo(pycurl.INFO_FILETIME)
    os.utime(local, (seconds, seconds))


def names(curl, path):
    prepared(curl, path.rstrip("/") + "/")
    curl.setopt(pycurl.DIRLISTONLY, 1)
    return curl.perform_rb().decode()


def command(words):
    """`curl -Q`: a command goes with a transfer, here of a listing that nobody looks at."""

    def act(curl, *paths):
        prepared(curl, "/")
        curl.setopt(pycurl.QUOTE, [" ".join([words, *(f'"{path}"' for path in paths if path)])])
        curl.perform_rb()

    return act


DO = {
    "List": lambda curl, path, _: names(curl, path),
    "Put": put,
    "PutTimed": put_with_time,
    "PutAll": put_all,
    "Resume": lambda curl, local, remote: put(curl, local, remote, resume=True),
    "Get": get,
    "GetTimed": get_with_time,
    "Rename": command("rename"),
    "Remove": command("rm"),
    "Mkdir": command("mkdir"),
    "Rmdir": command("rmdir"),
    "Symlink": command("symlink"),
    "Chmod": command("chmod 600"),
}


def main():
    curl = pycurl.Curl()
    answers = []
    for step in SETTINGS["steps"]:
        try:
            answers.append(common.answer(DO[step["kind"]](curl, step["from"], step["to"])))
        except Exception as error:
            answers.append(common.failure(error))
    common.tell(answers)
    curl.close()


main()
