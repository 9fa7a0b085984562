"""Steps by paramiko, as scripts at institutions do them: put, get, listdir, with nothing set that is not the default."""

import os
import sys

HERE = sys.path.pop(0)  # Else this file would be imported in the library's place.
import paramiko  # noqa: E402

sys.path.append(HERE)
import common  # noqa: E402


def set_time(sftp, local, remote):
    sftp.put(local, remote)
    facts = os.stat(local)
    sftp.utime(remote, (facts.st_atime, facts.st_mtime))


def get_with_time(sftp, remote, local):
    sftp.get(remote, local)
    facts = sftp.stat(remote)
    os.utime(local, (facts.st_atime, facts.st_mtime))


def put_all(sftp, folder, remote):
    for name in sorted(os.listdir(folder)):
        sftp.put(os.path.join(folder, name), f"{remote}/{name}")


def resume(sftp, local, remote):
    there = sftp.stat(remote).st_size
    with open(local, "rb") as source, sftp.open(remote, "r+b") as target:
        source.seek(there)
        target.seek(there)
        target.set_pipelined(True)
        while piece := source.read(32768):
            target.write(piece)


def stat(sftp, path):
    facts = sftp.stat(path)
    return f"{facts.st_size} {facts.st_mtime}"


DO = {
    "List": lambda sftp, path, _: "\n".join(sftp.listdir(path)),
    "Stat": lambda sftp, path, _: stat(sftp, path),
    "Put": lambda sftp, local, remote: sftp.put(local, remote) and None,
    "PutTimed": set_time,
    "PutAll": put_all,
    "Resume": resume,
    "Get": lambda sftp, remote, local: sftp.get(remote, local),
    "GetTimed": get_with_time,
    "Rename": lambda sftp, old, new: sftp.rename(old, new),
    "Remove": lambda sftp, path, _: sftp.remove(path),
    "Mkdir": lambda sftp, path, _: sftp.mkdir(path),
    "Rmdir": lambda sftp, path, _: sftp.rmdir(path),
    "Symlink": lambda sftp, target, path: sftp.symlink(target, path),
    "Chmod": lambda sftp, path, _: sftp.chmod(path, 0o600),
}


def main():
    settings = common.settings()
    client = paramiko.SSHClient()
    client.load_host_keys(settings["known-hosts"])
    client.connect(
        settings["host"],
        settings["port"],
        settings["user"],
        key_filename=settings["key"],
        allow_agent=False,
        look_for_keys=False,
        timeout=50,
    )
    sftp = client.open_sftp()
    sftp.get_channel().settimeout(50)
    answers = []
    for step in settings["steps"]:
        try:
            answers.append(common.answer(DO[step["kind"]](sftp, step["from"], step["to"])))
        except Exception as error:
            answers.append(common.failure(error))
    common.tell(answers)
    client.close()


main()
