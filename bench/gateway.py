"""What the gateway adds to a request: to the first token, and to each message of a stream.

    python -m bench.gateway [--clients 1,16] [--repeats 40]

Drives `shortstack bench gateway` as a user would, on the bundled model and the demo's prompts, and
writes bench/results/gateway-MODEL-MACHINE.json. Run it on a machine that does nothing else: three
processes share a message's way, and each waits for a core; the load average is kept with the
result.
"""

import sys

from bench.subject import measure_subject

if __name__ == "__main__":
    measure_subject("gateway", __doc__, sys.argv[1:])
