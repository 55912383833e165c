"""Prints every packet that arrives in a network namespace from one sender, one line each.

Usage: sniffer.py ADDRESS. Says "ready" first. Ends on SIGTERM, once everything that had arrived is printed, with
"end N", where N is how many packets the kernel could not keep for it. Address resolution and the kernel's own IPv6 neighbour
discovery (ICMPv6 types 130 to 143) are left out: no program asks for them.
"""
import signal
import socket
import struct
import sys

SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_RCVBUFFORCE = 33

sender = socket.inet_aton(sys.argv[1])
capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
# The call that waits is taken up again (PEP 475), and then finds either a packet or nothing.
signal.signal(signal.SIGTERM, lambda *_: capture.setblocking(False))
print("ready", flush=True)
macs = set()
while True:
    try:
        frame, (device, _, kind, *_rest) = capture.recvfrom(65535)
    except BlockingIOError:
        _received, dropped = struct.unpack("II", capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        print("end", dropped, flush=True)
        break
    if device == "lo" or kind == 4:  # PACKET_OUTGOING
        continue
    protocol = struct.unpack("!H", frame[12:14])[0]
    if protocol == 0x0800:
        head = (frame[14] & 15) * 4
        source, destination = frame[26:30], frame[30:34]
        if source == sender:
            macs.add(frame[6:12])
        elif frame[6:12] not in macs:
            continue
        transport = frame[14 + head :]
        ports = struct.unpack("!HH", transport[:4]) if frame[23] in (6, 17) and len(transport) >= 4 else (0, 0)
        print("ipv4", frame[23], socket.inet_ntoa(destination), ports[1], flush=True)
    elif protocol == 0x86DD:
        if frame[6:12] not in macs:
            continue
        following, body = frame[20], frame[54:]
        if following == 0:  # hop-by-hop options stand before MLD reports
            following, body = body[0], body[(body[1] + 1) * 8 :]
        if following == 58 and body and 130 <= body[0] <= 143:
            continue
        print("ipv6", following, socket.inet_ntop(socket.AF_INET6, frame[38:54]), 0, flush=True)
    elif protocol != 0x0806 and frame[6:12] in macs:
        print("other", hex(protocol), "-", 0, flush=True)
