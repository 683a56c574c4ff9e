#!/usr/bin/env python3
"""Makes a running Kakehi what a JSON file says: reads both, computes the difference, sends it as one transaction.

    kakehi_config.py [--dry-run] COMMAND_SOCKET DESIRED.json

    {"listeners": ["127.0.0.1:8080"],
     "clusters": {"app": {"frontends": [{"address": "127.0.0.1:8080", "hostname": "app.test", "path": "/"}],
                          "backends": ["127.0.0.1:9001", "[::1]:9002"], "https_redirect": false}}}

Knows HTTP listeners, clusters, their HTTP frontends by path prefix, and backends. It removes what the file does not
have, but of other things (HTTPS, TCP, certificates) it touches nothing beyond what goes with a removed cluster.
Written from doc/command-protocol.md alone; no dependencies."""
import ipaddress, json, socket, struct, sys

# --- protobuf: a message is a list of (number, value) to write, a dict of number -> values to read -------------

class Fixed32(int): """An integer in four bytes instead of a varint."""

def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])

def encode(fields):
    out = b""
    for number, value in fields:
        if isinstance(value, Fixed32):
            out += varint(number << 3 | 5) + struct.pack("<I", value)
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:  # a text, or a message
            value = value.encode() if isinstance(value, str) else encode(value)
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out

def decode(data):
    fields, at = {}, 0
    def take_varint():
        nonlocal at
        n = shift = 0
        while True:
            byte, at = data[at], at + 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128: return n
    while at < len(data):
        tag = take_varint()
        kind = tag & 7
        if kind == 0: value = take_varint()
        else:
            length = {1: 8, 5: 4}.get(kind) or take_varint()
            value, at = data[at:at + length], at + length
        fields.setdefault(tag >> 3, []).append(value)
    return fields

def message(fields, *path):  # the message at the end of a path of field numbers; empty if there is none
    for number in path: fields = decode(fields.get(number, [b""])[-1])
    return fields

def text(fields, number): return fields.get(number, [b""])[-1].decode()

# --- the conversation -----------------------------------------------------------------------------------------

class Kakehi:
    def __init__(self, path):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(path)
        self.file = self.stream.makefile("rb")
    def ask(self, *request):
        payload = encode([request])
        self.stream.sendall(struct.pack("<Q", len(payload) + 8) + payload)
        while True:
            head = self.file.read(8)
            if len(head) < 8: sys.exit("the proxy closed the connection")
            answer = decode(self.file.read(struct.unpack("<Q", head)[0] - 8))
            status = answer.get(1, [2])[-1]
            if status == 2: sys.exit("refused: " + text(answer, 2))
            if status == 0: return message(answer, 3)

def address(wire):
    ip = message(wire, 1)
    if 1 in ip: host = str(ipaddress.IPv4Address(struct.unpack("<I", ip[1][-1])[0]))
    else: host = "[%s]" % ipaddress.IPv6Address(message(ip, 2)[2][-1] << 64 | message(ip, 2)[1][-1])
    return "%s:%d" % (host, wire[2][-1])

def wire_address(shown):
    host, port = shown.rsplit(":", 1)
    ip = ipaddress.ip_address(host.strip("[]"))
    inner = (1, Fixed32(ip)) if ip.version == 4 else (2, [(1, int(ip) & 2**64 - 1), (2, int(ip) >> 64)])
    return [(1, [inner]), (2, int(port))]

def running(proxy):
    """Listeners: address -> active. Clusters: id -> settings. Frontends and backends: sets. And the revision."""
    revision = message(proxy.ask(1001, []), 1000)[1][-1]
    listeners, clusters, frontends, backends = {}, {}, set(), set()
    for entry in message(proxy.ask(6, []), 6).get(1, []):
        listener = message(decode(entry), 2)
        listeners[address(message(listener, 1))] = listener.get(11, [0])[-1] == 1
    def of_main(content):  # worker_responses: a map of contents, of which main's is the state
        return next(message(decode(e), 2) for e in content.get(1, []) if text(decode(e), 1) == "main")
    for entry in message(of_main(message(proxy.ask(37, []), 3)), 10).get(1, []):
        name = text(decode(entry), 1)
        views = of_main(message(proxy.ask(35, name), 3))
        view = message(message(views, 9), 1)
        clusters[name] = bool(message(view, 1).get(3, [0])[-1])
        for frontend in map(decode, view.get(2, [])):
            if message(frontend, 4).get(1, [0])[-1] == 0 and 5 not in frontend and 17 not in frontend:
                at = address(message(frontend, 2)), text(frontend, 3), text(message(frontend, 4), 2)
                frontends.add((name, *at))
        for backend in map(decode, view.get(5, [])):
            backends.add((name, text(backend, 2), address(message(backend, 3))))
    return listeners, clusters, frontends, backends, revision

def desired(file):
    clusters, frontends, backends = {}, set(), set()
    for name, cluster in file.get("clusters", {}).items():
        clusters[name] = cluster.get("https_redirect", False)
        frontends |= {(name, f["address"], f["hostname"], f.get("path", "/")) for f in cluster["frontends"]}
        backends |= {(name, b, b) for b in cluster["backends"]}  # a backend is called by its address
    return file.get("listeners", []), clusters, frontends, backends

def difference(old, new):
    """Requests, in an order in which each is possible: what goes, then what comes."""
    old_listeners, old_clusters, old_frontends, old_backends, _ = old
    listeners, clusters, frontends, backends = new
    gone = set(old_clusters) - set(clusters)  # takes its frontends and backends along
    def frontend(f): return [(1, f[0]), (2, wire_address(f[1])), (3, f[2]), (4, [(1, 0), (2, f[3])]), (6, 2)]
    def backend(b): return [(1, b[0]), (2, b[1]), (3, wire_address(b[2]))]
    yield from ((14, name) for name in sorted(gone))
    yield from ((16, frontend(f)) for f in sorted(old_frontends - frontends) if f[0] not in gone)
    yield from ((25, backend(b)) for b in sorted(old_backends - backends) if b[0] not in gone)
    yield from ((29, [(1, wire_address(at)), (2, 0)]) for at in sorted(set(old_listeners) - set(listeners)))
    for at in sorted(set(listeners) - set(old_listeners)):
        yield 26, [(1, wire_address(at)), (5, 0), (6, "SOZUBALANCEID"), (7, 60), (8, 30), (9, 3), (10, 10), (11, 0)]
    yield from ((30, [(1, wire_address(at)), (2, 0), (3, 0)]) for at in listeners if not old_listeners.get(at))
    for name, redirect in sorted(clusters.items()):
        if old_clusters.get(name) != redirect:
            yield 13, [(1, name), (2, 0), (3, int(redirect)), (5, 0)]
    yield from ((24, backend(b) + [(5, [(1, 100)])]) for b in sorted(backends - old_backends))
    yield from ((15, frontend(f)) for f in sorted(frontends - old_frontends))

def main(arguments):
    dry_run = "--dry-run" in arguments
    path, file = [a for a in arguments if a != "--dry-run"]
    proxy = Kakehi(path)
    old = running(proxy)
    requests = list(difference(old, desired(json.load(open(file)))))
    if requests and not dry_run:  # if somebody else was faster, the difference is not what was computed: refused
        proxy.ask(1000, [(1, [request]) for request in requests] + [(2, old[-1])])
    print("%s changes%s at revision %d" % (len(requests) or "no", ", not sent," * dry_run, old[-1]))

if __name__ == "__main__":
    main(sys.argv[1:]) if 3 <= len(sys.argv) <= 4 else sys.exit(__doc__)
