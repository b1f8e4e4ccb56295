"""Asks a real Prometheus over a running stack for every panel of the dashboards and every alert.

python scripts/check_dashboards.py [MODEL_DIRECTORY]

Needs `prometheus` on the PATH (Debian: apt-get install prometheus). Exit status 1 if a panel's
expression gives an error or no data, or a rule cannot be evaluated or fires.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from shortstack.plan import StackConfig
from shortstack.stack import Stack
from shortstack.watching.expressions import alert_expressions, dashboard_expressions
from shortstack.watching.prometheus import find_prometheus
from shortstack.watching.watch import watch_faults

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models" / "shortstack-10m"
ON_ANY_PORT = "127.0.0.1:0"
TIMEOUT_S = 90.0


async def check(model: Path, program: str) -> list[str]:
    """Return what is wrong."""
    environ = {
        f"SHORTSTACK_{service}__METRICS_LISTEN": ON_ANY_PORT
        for service in ("GATEWAY", "VERIFY", "DRAFT")
    }
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(StackConfig(model, environ=environ)) as stack:
            prompt = "Once upon a time"
            return await watch_faults(stack, program, Path(folder), prompt, TIMEOUT_S)


def main() -> int:
    """Run the check; return the exit status."""
    program = find_prometheus()
    if program is None:
        print("prometheus is not on the PATH; Debian has it: apt-get install prometheus")
        return 1
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL
    faults = asyncio.run(check(model, program))
    for fault in faults:
        print(fault)
    num_panels, num_alerts = len(dashboard_expressions()), len(alert_expressions())
    print(f"{num_panels} expressions of panels, {num_alerts} alerts: {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
