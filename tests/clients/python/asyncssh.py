"""Steps by asyncssh: 128 requests at once, which may come in any order."""

import asyncio
import os
import sys

HERE = sys.path.pop(0)  # Else this file would be imported in the library's place.
import asyncssh  # noqa: E402

sys.path.append(HERE)
import common  # noqa: E402


async def put_all(sftp, folder, remote):
    await sftp.mput(os.path.join(folder, "*"), remote)


async def resume(sftp, local, remote):
    there = (await sftp.stat(remote)).size
    async with sftp.open(remote, asyncssh.FXF_WRITE, encoding=None) as target:
        with open(local, "rb") as source:
            source.seek(there)
            await target.write(source.read(), there)


async def stat(sftp, path):
    facts = await sftp.stat(path)
    return f"{facts.size} {facts.mtime}"


async def names(sftp, path):
    return "\n".join(await sftp.listdir(path))


DO = {
    "List": lambda sftp, path, _: names(sftp, path),
    "Stat": lambda sftp, path, _: stat(sftp, path),
    "Put": lambda sftp, local, remote: sftp.put(local, remote),
    "PutTimed": lambda sftp, local, remote: sftp.put(local, remote, preserve=True),
    "PutAll": put_all,
    "Resume": resume,
    "Get": lambda sftp, remote, local: sftp.get(remote, local),
    "GetTimed": lambda sftp, remote, local: sftp.get(remote, local, preserve=True),
    "Rename": lambda sftp, old, new: sftp.rename(old, new),
    "Remove": lambda sftp, path, _: sftp.remove(path),
    "Mkdir": lambda sftp, path, _: sftp.mkdir(path),
    "Rmdir": lambda sftp, path, _: sftp.rmdir(path),
    "Symlink": lambda sftp, target, path: sftp.symlink(target, path),
    "Chmod": lambda sftp, path, _: sftp.chmod(path, 0o600),
}


async def main():
    settings = common.settings()
    answers = []
    async with asyncssh.connect(
        settings["host"],
        settings["port"],
        username=settings["user"],
        client_keys=[settings["key"]],
        known_hosts=settings["known-hosts"],
        agent_path=None,
        config=None,
    ) as connection, connection.start_sftp_client() as sftp:
        for step in settings["steps"]:
            try:
                action = DO[step["kind"]](sftp, step["from"], step["to"])
                answers.append(common.answer(await asyncio.wait_for(action, 50)))
            except Exception as error:
                answers.append(common.failure(error))
    common.tell(answers)


asyncio.run(main())
