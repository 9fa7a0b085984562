import json
import os
import socket
import sys

import paramiko

HOST, PORT, USER, KEY = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]


def transport(user=USER, key=KEY):
    connection = paramiko.Transport(socket.create_connection((HOST, PORT), timeout=50))
    connection.banner_timeout = 50
    connection.connect(username=user, pkey=paramiko.Ed25519Key.from_private_key_file(key))
    return connection


def sftp():
    client = paramiko.SFTPClient.from_transport(transport())
    client.get_channel().settimeout(50)
    return client


def outcome(action):
    """What the client gets to hear, in a form that can be compared."""
    try:
        return ["ok", repr(action())]
    except IOError as error:
        return ["refused", error.errno, str(error.strerror or error)]


def read(name):
    with open(name, "rb") as file:
        return file.read()
