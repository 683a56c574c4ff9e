#!/usr/bin/env python3
"""Makes clusters, backends and HTTP frontends of a running Kakehi what a JSON file says, in one transaction.

    kakehi_config.py COMMAND_SOCKET show | diff FILE | apply FILE

The file: {"CLUSTER": {"load_balancing": 0,
                       "backends": {"ID": {"address": "IP:PORT", "weight": 100}},
                       "frontends": [{"listener": "IP:PORT", "hostname": "HOST", "path": "/"}]}}
Clusters with other settings than these are better left to `kakehi reload`. Needs nothing but Python 3.8; all that it
knows of the protocol is in command-protocol.md, beside it.
"""
import ipaddress, json, socket, struct, sys

PREFIX, TREE = 0, 2  # PathRuleKind, RulePosition


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

def field(number, value):
    """A field: an int as varint; text, bytes or a list of fields by length; ("fixed32", n) as such."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, tuple):
        return varint(number << 3 | 5) + struct.pack("<I", value[1])
    data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b"".join(value)
    return varint(number << 3 | 2) + varint(len(data)) + data

def take(data, at):
    n, shift = data[at] & 127, 7
    while data[at] > 127:
        at += 1
        n, shift = n | (data[at] & 127) << shift, shift + 7
    return n, at + 1

def decode(data):
    """Field number -> values: ints, or bytes to be decoded further."""
    fields, at = {}, 0
    while at < len(data):
        key, at = take(data, at)
        value = None
        if key & 7 in (0, 2):
            value, at = take(data, at)
        if key & 7:
            size = {1: 8, 2: value, 5: 4}[key & 7]
            value, at = data[at:at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields

def entries(data):
    return {entry[1][0].decode(): entry[2][0] for entry in map(decode, decode(data).get(1, []))}

def address(text):
    host, _, port = text.rpartition(":")
    ip = ipaddress.ip_address(host.strip("[]"))
    six = [field(1, int(ip) & (1 << 64) - 1), field(2, int(ip) >> 64)]
    return [field(1, field(1, ("fixed32", int(ip))) if ip.version == 4 else field(2, six)), field(2, int(port))]

def address_text(data):
    ip, port = (values[0] for _, values in sorted(decode(data).items()))
    ((version, (ip,)),) = decode(ip).items()
    if version == 1:
        return f"{ipaddress.IPv4Address(struct.unpack('<I', ip)[0])}:{port}"
    halves = decode(ip)
    return f"[{ipaddress.IPv6Address(halves[2][0] << 64 | halves[1][0])}]:{port}"


class Proxy:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def ask(self, *requests):
        """The contents of the answers to requests, of which some are sent ahead."""
        for begin in range(0, len(requests), 64):
            batch = requests[begin:begin + 64]
            self.socket.sendall(b"".join(struct.pack("<Q", len(request) + 8) + request for request in batch))
            yield from (self.answer() for _ in batch)

    def answer(self):
        status = 1  # PROCESSING: the answer is still to come
        while status == 1:
            head = self.stream.read(8) or sys.exit("the proxy has closed the connection")
            response = decode(self.stream.read(struct.unpack("<Q", head)[0] - 8))
            status = response[1][0]
        if status == 2:  # FAILURE
            sys.exit(response[2][0].decode())
        return decode(response[3][0]) if 3 in response else {}

    def running(self):
        """The revision, and what runs at it."""
        revision, hashes = self.ask(field(1001, []), field(37, []))
        main = decode(decode(entries(hashes[3][0])["main"])[10][0]).get(1, [])
        names = [decode(entry)[1][0].decode() for entry in main]
        answers = self.ask(*(field(35, name) for name in names))
        return decode(revision[1000][0])[1][0], {name: self.cluster(it) for name, it in zip(names, answers)}

    @staticmethod
    def cluster(answer):
        whole = decode(decode(decode(entries(answer[3][0])["main"])[9][0])[1][0])
        backends = {it[2][0].decode(): {"address": address_text(it[3][0]),
                                        "weight": decode(it[5][0])[1][0] if 5 in it else 100}
                    for it in map(decode, whole.get(5, []))}
        frontends = [{"listener": address_text(it[2][0]), "hostname": it[3][0].decode(),
                      "path": decode(it[4][0]).get(2, [b""])[0].decode()} for it in map(decode, whole.get(2, []))]
        algorithm = decode(whole[1][0]).get(5, [0])[0] if 1 in whole else 0
        return {"load_balancing": algorithm, "backends": backends, "frontends": frontends}


def orders(running, desired):
    """(what it does, request) for each difference. A cluster that goes takes its frontends and backends with it."""
    for name in sorted(running.keys() - desired.keys()):
        yield f"- cluster {name}", field(14, name)
    for name, cluster in sorted(desired.items()):
        now, balancing = running.get(name, {"backends": {}, "frontends": []}), cluster.get("load_balancing", 0)
        if now.get("load_balancing") != balancing:
            yield f"+ cluster {name}", field(13, [field(1, name), field(2, 0), field(3, 0), field(5, balancing)])
        old, new = now["backends"], {i: {"weight": 100, **it} for i, it in cluster.get("backends", {}).items()}
        for i, to in sorted((i, it["address"]) for i, it in old.items() if new.get(i, {}).get("address") != it["address"]):
            yield f"- backend {name}/{i}", field(25, [field(1, name), field(2, i), field(3, address(to))])
        for i, it in sorted((i, it) for i, it in new.items() if old.get(i) != it):
            body = [field(1, name), field(2, i), field(3, address(it["address"])), field(5, field(1, it["weight"]))]
            yield f"+ backend {name}/{i} {it['address']}", field(24, body)
        old, new = now["frontends"], cluster.get("frontends", [])
        for number, sign, some, others in ((16, "-", old, new), (15, "+", new, old)):
            for it in (it for it in some if it not in others):
                body = [field(1, name), field(2, address(it["listener"])), field(3, it["hostname"]),
                        field(4, [field(1, PREFIX), field(2, it["path"])]), field(6, TREE)]
                yield f"{sign} frontend {name} {it['hostname']}{it['path']}", field(number, body)


proxy, verb = Proxy(sys.argv[1]), sys.argv[2]
revision, running = proxy.running()
if verb == "show":
    print(json.dumps(running, indent=2, sort_keys=True))
else:
    with open(sys.argv[3]) as file:
        todo = list(orders(running, json.load(file)))
    print(*(text for text, _ in todo), sep="\n", end="\n" if todo else "")
    if verb == "apply" and todo:
        # At the revision that was compared with: if somebody else was faster, nothing happens.
        list(proxy.ask(field(1000, [field(1, request) for _, request in todo] + [field(2, revision)])))
        print(f"{len(todo)} changes applied")
