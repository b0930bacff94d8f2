"""A limit on the time that a function may take, in any thread."""

import ctypes
import threading
from collections.abc import Callable

from mi_common.errors import UserError


def within(seconds: float, function: Callable, *arguments):
    """`function(*arguments)`; UserError if it takes longer.

    A call into a library ends before the time is checked. This is a function and not a `with`
    block, because the Python code of `__enter__` and `__exit__` would run outside of the `try` that
    catches the exception.
    """
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    thread = ctypes.c_ulong(threading.get_ident())
    lock, running, raised = threading.Lock(), True, False

    class TimeIsUp(BaseException):
        """Belongs to this call alone, so that no other code catches it."""

    def stop() -> None:
        nonlocal raised
        with lock:
            if running:
                raised = True
                raise_in(thread, ctypes.py_object(TimeIsUp))

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), stop)
    timer.daemon = True
    try:
        try:
            timer.start()
            return function(*arguments)
        finally:
            timer.cancel()
            with lock:
                running = False
                if raised:
                    raise_in(thread, None)  # clears an exception that was set but has not arrived
    except TimeIsUp as error:
        raise UserError(f"not done in {seconds:g} seconds") from error
