"""The inference server: completes texts with the weights it was sent. It keeps nothing: who asks names the weights and has them.

    python inference.py [--port 8765]

It may stay up while trainings come and go, and may be killed and started again at any time.
"""

import argparse
from multiprocessing.connection import Listener

import link
import policy
import settings


class Server:
    """The newest weights, by name."""

    def __init__(self):
        self.model = policy.Policy(0)
        self.version = None

    def answer(self, message, data):
        if message["do"] == "load":
            policy.read_weights(self.model, data)
            self.version = policy.version_of(message["step"], data)
        elif message["do"] == "complete" and message["version"] == self.version:
            return {"version": self.version, "completions": self.model.complete(message["texts"], message["seed"])}
        return {"version": self.version}


def serve(listener):
    server = Server()
    while True:
        try:
            with listener.accept() as connection:
                while True:
                    link.send(connection, server.answer(*link.receive(connection)))
        except (EOFError, ConnectionError):
            # Whoever asked has heard enough, or is gone.
            continue


def main():
    args = argparse.ArgumentParser()
    host, port = link.address_of(settings.INFERENCE)
    args.add_argument("--port", type=int, default=port, help="0: any that is free")
    policy.make_exact()
    with Listener((host, args.parse_args().port)) as listener:
        print(f"inference at {host}:{listener.address[1]}", flush=True)
        serve(listener)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped")
