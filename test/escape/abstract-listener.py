"""Listens on an abstract unix socket and prints a line for each connection. Usage: abstract-listener.py NAME"""
import socket
import sys

listening = socket.socket(socket.AF_UNIX)
listening.bind("\0" + sys.argv[1])
listening.listen()
print("ready", flush=True)
while True:
    listening.accept()
    print("connected", flush=True)
