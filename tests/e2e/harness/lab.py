"""All that one test started, and the end of it."""

import pathlib

from .edge import Edge
from .ends import Pbx, TcpPbx, TlsClient, WssClient
from .process import end_orphans


class Lab:
    def __init__(self, path, ca):
        self.path, self.ca = pathlib.Path(path), ca
        self.processes, self.edges, self.ends, self.cleanups = [], [], [], []

    def folder(self, name):
        """A folder for one part: NAME, or NAME.2 and so on where that is taken."""
        for n in range(1, 100):
            folder = self.path / (name if n == 1 else f"{name}.{n}")
            if not folder.exists():
                folder.mkdir(parents=True)
                return folder
        raise RuntimeError(name)

    def edge(self, **options):
        """A sipward with real backends or users given by the caller."""
        return Edge(self, **options)

    def scripted(self, address="127.0.0.1", transport="udp", **options):
        """A scripted PBX and a sipward in front of it."""
        pbx = {"udp": Pbx, "tcp": TcpPbx}[transport](self, address=address)
        pbx.edge = self.edge(backends=[f"{transport}:{pbx.host}"], address=address, **options)
        return pbx.edge, pbx

    def client(self, edge, name, kind="tls", **options):
        return {"tls": TlsClient, "wss": WssClient}[kind](self, edge, name, **options)

    def registered(self, edge, pbx, name, kind="tls"):
        """A client whose REGISTER the scripted PBX took. Returns it; .bound is the URI and
        .paths the Paths that the PBX knows it by."""
        client = self.client(edge, name, kind)
        client.send(client.register_request(300))
        register, client.bound = pbx.accept_register()
        client.paths = register.all("Path")
        client.expect(200)
        return client

    def close(self):
        """End everything, the edges last; the first error of an edge is raised."""
        for cleanup in reversed(self.cleanups):
            cleanup()
        for end in self.ends:
            end.close()
        own = {edge.process for edge in self.edges}
        for process in reversed(self.processes):
            if process not in own and not process.stopped:
                process.stop()
        errors = []
        for edge in list(self.edges):
            try:
                edge.stop()
            except AssertionError as error:
                errors.append(error)
        for process in self.processes:
            process.stop()
        end_orphans()
        if errors:
            raise errors[0]

    def logs(self):
        """(name, text) of every part, for the report of a failure."""
        for end in self.ends:
            yield end.name, end.text()
        for process in self.processes:
            for file in [process.log, *process.more_logs]:
                if file.exists():
                    text = file.read_text(errors="replace")
                    yield f"{process.name}: {file.name}", text[-8000:]
