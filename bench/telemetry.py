"""What telemetry costs: tokens per second through the gateway and CPU time, with and without it.

    python -m bench.telemetry [--clients 1,4] [--blocks 100] [--all] [--with NAME=VALUE ...]

Drives `shortstack bench telemetry` as a user would, on the bundled model and the demo's prompts,
and writes bench/results/telemetry-MODEL-MACHINE.json. Stacks with and without telemetry take turns,
so their ratio stands some load; the load average is kept with the result.
"""

import sys

from bench.subject import measure_subject

if __name__ == "__main__":
    measure_subject("telemetry", __doc__, sys.argv[1:])
