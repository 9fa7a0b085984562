// Steps by ssh2-sftp-client. Arguments: the folder that its packages are installed in, and the steps as JSON.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const Client = require(path.join(process.argv[2], "node_modules", "ssh2-sftp-client"));

const settings = JSON.parse(process.argv[3]);

async function resume(sftp, local, remote) {
  const there = (await sftp.stat(remote)).size;
  return sftp.append(fs.readFileSync(local).subarray(there), remote);
}

async function stat(sftp, remote) {
  const facts = await sftp.stat(remote);
  return `${facts.size} ${facts.modifyTime / 1000}`;
}

const act = {
  List: async (sftp, remote) => (await sftp.list(remote)).map((entry) => entry.name).join("\n"),
  Stat: stat,
  // Many requests at once, in whatever order; uploadDir takes the other way, a stream.
  Put: (sftp, local, remote) => sftp.fastPut(local, remote),
  PutAll: (sftp, local, remote) => sftp.uploadDir(local, remote),
  Resume: resume,
  Get: (sftp, remote, local) => sftp.fastGet(remote, local),
  Rename: (sftp, from, to) => sftp.rename(from, to),
  Remove: (sftp, remote) => sftp.delete(remote),
  Mkdir: (sftp, remote) => sftp.mkdir(remote),
  Rmdir: (sftp, remote) => sftp.rmdir(remote),
  Chmod: (sftp, remote) => sftp.chmod(remote, 0o600),
};

async function main() {
  const sftp = new Client();
  // What ends the connection shows in the step that was under way.
  sftp.on("error", () => {});
  const expected = settings["host-key"].split(" ")[1];
  await sftp.connect({
    host: settings.host,
    port: settings.port,
    username: settings.user,
    privateKey: fs.readFileSync(settings.key),
    hostVerifier: (key) => key.toString("base64") === expected,
    readyTimeout: 50000,
  });
  const answers = [];
  for (const step of settings.steps) {
    try {
      answers.push({ ok: true, text: String(await act[step.kind](sftp, step.from, step.to)) });
    } catch (error) {
      answers.push({ ok: false, text: String(error.message) });
    }
  }
  fs.writeSync(1, JSON.stringify(answers));
  await Promise.race([sftp.end().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 5000))]);
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
