#!/usr/bin/env python3
"""Makes clusters, backends and HTTP frontends of a running Kakehi what a JSON file says, in one transaction.

    kakehi_config.py COMMAND_SOCKET show             # what runs, in the form of the file
    kakehi_config.py COMMAND_SOCKET diff FILE        # what would change
    kakehi_config.py COMMAND_SOCKET apply FILE       # change it: all of it or nothing

The file: {"CLUSTER": {"load_balancing": 0,
                       "backends": {"ID": {"address": "IP:PORT", "weight": 100}},
                       "frontends": [{"listener": "IP:PORT", "hostname": "HOST", "path": "/"}]}}
Clusters with other settings than these are better left to `kakehi reload`. Needs nothing but Python 3.8; all that it
knows of the protocol is in command-protocol.md, beside it.
"""
import ipaddress, json, socket, struct, sys

PREFIX, TREE = 0, 2  # PathRuleKind, RulePosition


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def field(number, value):
    """A field: an int as varint, bytes, a text or a list of fields by length, ("fixed32", n) as such."""
    if isinstance(value, bool) or isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    if isinstance(value, tuple):
        return varint(number << 3 | 5) + struct.pack("<I", value[1])
    data = value.encode() if isinstance(value, str) else b"".join(value) if isinstance(value, list) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def decode(data):
    """Field number -> values: ints, or bytes to be decoded further."""
    fields, at = {}, 0

    def take_varint():
        nonlocal at
        n = shift = 0
        while True:
            byte, at = data[at], at + 1
            n, shift = n | (byte & 127) << shift, shift + 7
            if byte < 128:
                return n

    while at < len(data):
        key = take_varint()
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            value = take_varint()
        else:
            size = take_varint() if size is None else size
            value, at = data[at:at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def address(text):
    host, _, port = text.rpartition(":")
    ip = ipaddress.ip_address(host.strip("[]"))
    inner = field(1, ("fixed32", int(ip))) if ip.version == 4 else field(
        2, [field(1, int(ip) & (1 << 64) - 1), field(2, int(ip) >> 64)])
    return [field(1, inner), field(2, int(port))]


def address_text(data):
    whole = decode(data)
    inner, port = decode(whole[1][0]), whole[2][0]
    if 1 in inner:
        return f"{ipaddress.IPv4Address(struct.unpack('<I', inner[1][0])[0])}:{port}"
    halves = decode(inner[2][0])
    return f"[{ipaddress.IPv6Address(halves[2][0] << 64 | halves[1][0])}]:{port}"


class Proxy:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def ask(self, *requests):
        """The contents of the answers to requests, of which some are sent ahead."""
        answers = []
        for begin in range(0, len(requests), 64):
            batch = requests[begin:begin + 64]
            self.socket.sendall(b"".join(struct.pack("<Q", len(request) + 8) + request for request in batch))
            answers += [self.answer() for _ in batch]
        return answers

    def answer(self):
        while True:
            head = self.stream.read(8)
            if len(head) < 8:
                sys.exit("the proxy has closed the connection")
            response = decode(self.stream.read(struct.unpack("<Q", head)[0] - 8))
            status, message = response[1][0], response.get(2, [b""])[0].decode()
            if status == 2:  # FAILURE; 1 is PROCESSING: the answer is still to come
                sys.exit(message)
            if status == 0:
                return decode(response[3][0]) if 3 in response else {}

    def running(self):
        """The revision, and what runs at it."""
        revision, hashes = self.ask(field(1001, []), field(37, []))
        by_process = {entry[1][0]: entry[2][0] for entry in map(decode, decode(hashes[3][0]).get(1, []))}
        main = decode(decode(by_process[b"main"])[10][0]).get(1, [])
        names = [decode(entry)[1][0].decode() for entry in main]
        answers = self.ask(*(field(35, name) for name in names)) if names else []
        clusters = {name: self.cluster(answer) for name, answer in zip(names, answers)}
        return decode(revision[1000][0])[1][0], clusters

    @staticmethod
    def cluster(answer):
        by_process = {entry[1][0]: entry[2][0] for entry in map(decode, decode(answer[3][0])[1])}
        whole = decode(decode(decode(by_process[b"main"])[9][0])[1][0])
        backends, frontends = {}, []
        for backend in map(decode, whole.get(5, [])):
            weight = decode(backend[5][0])[1][0] if 5 in backend else 100
            backends[backend[2][0].decode()] = {"address": address_text(backend[3][0]), "weight": weight}
        for frontend in map(decode, whole.get(2, [])):
            path = decode(frontend[4][0]).get(2, [b""])[0].decode()
            frontends.append({"listener": address_text(frontend[2][0]), "hostname": frontend[3][0].decode(),
                              "path": path})
        algorithm = decode(whole[1][0]).get(5, [0])[0] if 1 in whole else 0
        return {"load_balancing": algorithm, "backends": backends, "frontends": frontends}


def orders(running, desired):
    """(what it does, request) for each difference. A cluster that goes takes its frontends and backends with it."""
    for name in sorted(running.keys() - desired.keys()):
        yield f"- cluster {name}", field(14, name)
    for name, cluster in sorted(desired.items()):
        now = running.get(name, {"backends": {}, "frontends": []})
        balancing = cluster.get("load_balancing", 0)
        if now.get("load_balancing") != balancing:
            yield f"+ cluster {name}", field(13, [field(1, name), field(2, 0), field(3, 0), field(5, balancing)])
        wanted = {i: {"weight": 100, **b} for i, b in cluster.get("backends", {}).items()}
        for i, old in sorted(now["backends"].items()):
            if wanted.get(i, {}).get("address") != old["address"]:
                yield f"- backend {name}/{i}", field(25, [field(1, name), field(2, i), field(3, address(old["address"]))])
        for i, new in sorted(wanted.items()):
            if now["backends"].get(i) != new:
                body = [field(1, name), field(2, i), field(3, address(new["address"])), field(5, field(1, new["weight"]))]
                yield f"+ backend {name}/{i} {new['address']}", field(24, body)
        frontends = cluster.get("frontends", [])
        for verb, sign, some, others in ((16, "-", now["frontends"], frontends), (15, "+", frontends, now["frontends"])):
            for f in (f for f in some if f not in others):
                body = [field(1, name), field(2, address(f["listener"])), field(3, f["hostname"]),
                        field(4, [field(1, PREFIX), field(2, f["path"])]), field(6, TREE)]
                yield f"{sign} frontend {name} {f['hostname']}{f['path']}", field(verb, body)


def main():
    path, verb = sys.argv[1], sys.argv[2]
    proxy = Proxy(path)
    revision, running = proxy.running()
    if verb == "show":
        return print(json.dumps(running, indent=2, sort_keys=True))
    with open(sys.argv[3]) as file:
        todo = list(orders(running, json.load(file)))
    for text, _ in todo:
        print(text)
    if verb == "apply" and todo:
        # At the revision that was compared with: if somebody else was faster, nothing happens.
        proxy.ask(field(1000, [field(1, request) for _, request in todo] + [field(2, revision)]))
        print(f"{len(todo)} changes applied")


if __name__ == "__main__":
    main()
