"""Files that one process at a time holds; the system frees them however it ends."""

import errno
from typing import IO

# What a file system says that has no locks (Lustre without `-o flock`, some NFS).
_LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def hold(file: IO, *, wait: bool = False) -> bool:
    """Whether the open file is this process's until it is closed; with `wait` once the others have closed theirs.

    Where the system (Windows) or the file system has no locks everybody is told so: that two do not meet there is the
    user's own care. Raises OSError for a disk that fails.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise
    return True
