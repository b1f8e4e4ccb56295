"""The gateway starts without torch: import-linter sees the rule, this sees the fact."""

import subprocess
import sys

PROGRAM = """
import sys
import services.gateway.main
heavy = {"torch", "transformers", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_fresh_process_that_imports_the_gateway_loads_neither_torch_nor_transformers() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=30)
