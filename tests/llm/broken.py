"""One of two processes that train together; the second meets a fault: ``python -m tests.llm.broken FOLDER``."""

import sys
from pathlib import Path

from storerec.errors import DataError, StorerecError
from storerec.llm import processes
from tests.llm.test_training import Number, Shown, run


class Faulty(Shown):
    def __getitem__(self, index):
        if processes.rank() == 1 and self.epochs[-1] == 2 and index > 6:
            raise DataError("number 7 cannot be read")
        return super().__getitem__(index)


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), Number(), dataset=Faulty())
    except StorerecError as error:
        sys.stderr.write(f"{error}\n")
        processes.end(3)  # as the command does: gloo can abort an ordinary exit
