"""picows on the transports of uvloop."""

import uvloop

from benchmarks.compare.peers.picows import main

if __name__ == "__main__":
    uvloop.run(main(aiofastnet=False))
