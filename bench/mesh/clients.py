"""Programs that run in a namespace of the bench, as text: each prints one line of JSON."""

#: seconds of connections to two addresses in turn: HOST PORT HOST PORT COUNT
CONNECT = """
import json, socket, sys, time
targets, count = [(sys.argv[1], int(sys.argv[2])), (sys.argv[3], int(sys.argv[4]))], int(sys.argv[5])
found = [[], []]
for n in range(count):
    for index in ((0, 1) if n % 2 else (1, 0)):
        link = socket.socket()
        begun = time.perf_counter()
        link.connect(targets[index])
        found[index].append(time.perf_counter() - begun)
        link.recv(1)
        link.close()
print(json.dumps(found))
"""

#: seconds of each of COUNT queries one after the other, then of COUNT with WINDOW under way: SERVER NAME COUNT WINDOW
QUERY = """
import json, socket, struct, sys, time
server, name, count, window = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
question = b"".join(bytes((len(p),)) + p.encode() for p in name.split(".")) + b"\\0" + struct.pack("!HH", 1, 1)
query = [struct.pack("!HHHHHH", n, 0x100, 1, 0, 0, 0) + question for n in range(65536)]
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); link.settimeout(5); link.connect((server, 53))
single = []
for n in range(count):
    begun = time.perf_counter()
    link.send(query[n % 65536]); answer = link.recv(512)
    single.append(time.perf_counter() - begun)
assert answer[3] & 15 == 0 and answer[7] >= 1, answer
begun = time.perf_counter()
for n in range(window):
    link.send(query[n])
for n in range(count * 4):
    link.recv(512); link.send(query[n % 65536])
for n in range(window):
    link.recv(512)
print(json.dumps([single, count * 4 + window, time.perf_counter() - begun]))
"""

#: the monotonic clock at each change of nftables in the namespace, a line each
WATCH = """
import socket, time
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
kernel.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)
kernel.bind((0, 0)); kernel.setsockopt(270, 1, 7)
print("ready", flush=True)
while True:
    try:
        kernel.recv(1 << 18)
    except OSError:
        pass
    print(time.monotonic(), flush=True)
"""
