"""Pickles that hold nothing but plain data, read without running anything.

A pickle is a program for a stack machine, and `pickle.load` calls whatever it names. Here the
machine knows lists, tuples, bytes, bools, ints, floats, str and NumPy arrays of them; it builds
these itself, and whatever else a file asks for is refused by its name. Memory follows the file's
size, since lengths are compared with what is there and nothing may be copied again and again.
"""

import codecs
import mmap
import os
import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from facejax import files
from facejax.errors import UserError


class _Named(NamedTuple):
    """Something that a pickle names in order to call it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class _Mark:
    """A place on the stack."""


class _Array:
    """A NumPy array that has no contents yet, or a dtype that has no byte order yet."""

    def __init__(self, dtype: np.dtype | None = None) -> None:
        self.dtype = dtype
        self.value: np.ndarray | None = None


class _Refused(Exception):  # noqa: N818
    """What the file asks for, in words."""


# NumPy 1 and 2, and Python 2 and 3, have other names for the same things.
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_BUILTINS = ("__builtin__", "builtins")
_ENCODE = _Named("_codecs", "encode")
_NDARRAY, _DTYPE = _Named("numpy", "ndarray"), _Named("numpy", "dtype")
_RECONSTRUCT = {_Named(module, "_reconstruct") for module in _MULTIARRAY}
_SCALAR = {_Named(module, "scalar") for module in _MULTIARRAY}
_FROM_BUFFER = {_Named(module, "_frombuffer") for module in _NUMERIC}
_BYTES = {_Named(module, "bytes") for module in _BUILTINS}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_KNOWN = {_ENCODE, _NDARRAY, _DTYPE, *_RECONSTRUCT, *_SCALAR, *_FROM_BUFFER, *_BYTES}

_PLAIN = {  # the opcodes whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_COPIES = 8  # how many times a file's own size its contents may take


def load(path: str | os.PathLike[str]) -> Any:
    """The plain data in a pickle, of protocol 0 to 5.

    Args:
      path: of the file; `~` is the home.

    Returns:
      Lists, tuples, bytes, bools, ints, floats, str, None and NumPy arrays of numbers; a str of
      Python 2 is bytes.

    Raises:
      UserError: it can't be read, is damaged, or asks for anything else, which is named and not
        done.
    """
    path = files.expand(path)
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise UserError(f"{path} is empty: replace the file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Machine(content).run()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give another file") from error
    except _Refused as refused:
        wanted = "".join(one if one.isprintable() else "?" for one in str(refused))
        raise UserError(
            f"{path} asks for {wanted}, and is not read: a file of plain data has no need of it, "
            "so don't open it with pickle either"
        ) from None
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is damaged or no pickle of plain data ({error}): replace the file"
        ) from error


class _Machine:
    def __init__(self, content: Any) -> None:
        self.content = content
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.room = _COPIES * len(content) + 4096

    def run(self) -> Any:
        steps: dict[str, Callable[[Any], object]] = {
            "MARK": lambda _: self.stack.append(_Mark()),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "LIST": lambda _: self.stack.append(self._to_mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._to_mark())),
            "APPEND": lambda _: self._append([self.stack.pop()]),
            "APPENDS": lambda _: self._append(self._to_mark()),
            "POP": lambda _: self.stack.pop(),
            "POP_MARK": lambda _: self._to_mark(),
            "DUP": lambda _: self.stack.append(self.stack[-1]),
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "GLOBAL": lambda names: self._name(*names.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*reversed((self.stack.pop(), self.stack.pop()))),
            "REDUCE": lambda _: self._call(),
            "BUILD": lambda _: self._build(self.stack.pop()),
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
        }
        for name in ("BINSTRING", "SHORT_BINSTRING"):  # the str of Python 2, which is bytes
            steps[name] = lambda text: self.stack.append(text.encode("latin-1"))
        for name in ("PUT", "BINPUT", "LONG_BINPUT"):
            steps[name] = self._remember
        for name in ("GET", "BINGET", "LONG_BINGET"):
            steps[name] = lambda number: self.stack.append(self.memo[number])
        while code := self.content.read(1):
            if code == b"S":  # the same of protocol 0, which the library takes for ASCII
                self.stack.append(codecs.escape_decode(self.content.readline().strip()[1:-1])[0])
                continue
            opcode = _OPCODES[code]
            argument = opcode.arg.reader(self.content) if opcode.arg else None
            if opcode.name == "STOP":
                return self._finished(self.stack.pop())
            if opcode.name in _PLAIN:
                self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _TUPLES:
                count = _TUPLES[opcode.name]
                if len(self.stack) < count:
                    raise ValueError("it takes more from its stack than is there")
                self.stack[-count:] = [tuple(self.stack[-count:])]
            elif opcode.name in steps:
                steps[opcode.name](argument)
            elif opcode.name == "INST":
                raise _Refused(_word(argument).replace(" ", "."))
            else:
                raise _Refused(f"the operation {opcode.name}")
        raise ValueError("it has no end")

    def _to_mark(self) -> list[Any]:
        """What lies above the topmost mark, which goes with it."""
        for start in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[start], _Mark):
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError("a mark is missing")

    def _append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Refused(f"an append to a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def _remember(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def _name(self, module: Any, name: Any) -> None:
        named = _Named(_word(module), _word(name))
        if named not in _KNOWN:
            raise _Refused(str(named))
        self.stack.append(named)

    def _spend(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise _Refused("many times its own size in memory")

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Named) or not isinstance(arguments, tuple):
            raise _Refused(f"a call of a {type(function).__name__}")
        if function == _ENCODE:  # how Python 3 writes bytes in protocols 0 to 2
            text, encoding = arguments
            if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
                raise _Refused(f"{function} with the encoding {_word(encoding)!r}")
            self._spend(len(text))
            self.stack.append(text.encode("latin-1"))
        elif function in _BYTES and not arguments:
            self.stack.append(b"")
        elif function in _RECONSTRUCT and arguments[0] == _NDARRAY:
            self.stack.append(_Array())
        elif function == _DTYPE:
            self.stack.append(_Array(_dtype(arguments[0])))
        elif function in _SCALAR:
            dtype, content = arguments
            self.stack.append(self._values(dtype, content, ())[()])
        elif function in _FROM_BUFFER:
            content, dtype, shape, order = arguments
            self.stack.append(self._values(dtype, content, shape, fortran=order == "F"))
        else:
            raise _Refused(f"{function} with {len(arguments)} arguments")

    def _build(self, state: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Array) or not isinstance(state, tuple):
            raise _Refused(f"the setting of a {type(target).__name__}")
        if target.dtype is not None:
            order: Any = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
            target.dtype = target.dtype.newbyteorder(order)
            return
        shape, dtype, fortran, content = state[1:]
        if isinstance(content, str):
            content = content.encode("latin-1")
        target.value = self._values(dtype, content, shape, fortran=bool(fortran))

    def _values(self, dtype: Any, content: Any, shape: Any, *, fortran: bool = False) -> np.ndarray:
        if not isinstance(dtype, _Array) or dtype.dtype is None or not isinstance(content, bytes):
            raise _Refused("a NumPy array of something else than numbers")
        self._spend(len(content))
        values = np.frombuffer(content, dtype.dtype)
        return values.reshape(tuple(map(int, shape)), order="F" if fortran else "C")

    def _finished(self, value: Any) -> Any:
        """The value, its arrays in place of what stood for them."""

        def plain(item: Any) -> Any:
            if isinstance(item, _Array):
                if item.value is None:
                    raise ValueError("a NumPy array has no contents")
                return item.value
            if isinstance(item, _Named | _Mark):
                raise _Refused(f"the value {item}")
            return item

        # No deeper than the files are: (images, same), each of them a list.
        if not isinstance(value, list | tuple):
            return plain(value)
        lists = {id(part): part for part in value if isinstance(part, list | tuple)}
        done = {key: type(part)(map(plain, part)) for key, part in lists.items()}
        return type(value)(done[id(part)] if id(part) in done else plain(part) for part in value)


def _dtype(name: Any) -> np.dtype:
    name = name.decode("latin-1") if isinstance(name, bytes) else name
    if not isinstance(name, str) or not re.fullmatch(r"[<>=|]?[biuf]\d{1,2}", name):
        raise _Refused(f"a NumPy array of {_word(name)!r}")
    return np.dtype(name)


def _word(value: Any) -> str:
    """A name in the file as it can be shown. Anything else might unroll without end."""
    if not isinstance(value, str):
        raise _Refused(f"something that is called a {type(value).__name__}")
    return value[:200]
