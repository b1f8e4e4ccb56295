"""The command line starts without the heavy libraries: commands are imported when called."""

import subprocess
import sys

HEAVY = ("grpc", "torch", "transformers", "rich", "pydantic", "redis")


def test_help_loads_no_heavy_library() -> None:
    program = (
        "import sys, shortstack.cli as cli\n"
        "try:\n    cli.app(args=['--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stdout + result.stderr


def test_the_client_library_is_free_of_torch() -> None:
    program = (
        "import sys, shortstack.client, shortstack.stack, shortstack.commands.check\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
