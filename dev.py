"""The one command for people who work on the pack: ``python3 dev.py --help``.

Needs nothing but Python itself; what the sub-commands do is in ``tools/dev/``.
"""

import sys

from tools.dev.cli import main

# This file must parse on any Python 3, or users of an old one see a SyntaxError instead of this message.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "dev.py needs Python 3.10 or newer, and this is Python {} ({}). Install a newer one (from python.org or your "
        "system's packages) and name it in the command, for example: python3.12 dev.py {}".format(
            sys.version.split()[0], sys.executable, " ".join(sys.argv[1:])
        )
    )


if __name__ == "__main__":
    sys.exit(main())
