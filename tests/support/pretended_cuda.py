"""Pretended CUDA: tensors that say they are on cuda:0 and hold their numbers on the CPU, for a machine without a GPU.

Everything that asks a tensor where it is takes its CUDA branch, and the numbers are real. An operation that CUDA would
refuse because its tensors are on two devices raises `MixedDevices`; what would wait for the device, and what would be
launched there, is written down in `BOOK` with file and line.

What it does not show: races between streams, the limits of CUDA's own kernels, indices out of range, cuDNN, NCCL, the
caching allocator, and speed.

Importing this module must come before `import torch`: torch looks for its hooks once. It compiles one file with g++.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest import mock

SOURCE = Path(__file__).with_name("pretended_guard.cpp")


def _load_guard() -> None:
    """Compile the guard once for this torch and user, and hand it to torch's libraries."""
    assert "torch" not in sys.modules, "pretended_cuda has to be imported before torch"
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    torch_folder = Path(spec.origin).parent
    version = (torch_folder / "version.py").read_text()
    mark = hashlib.sha256(f"{torch_folder}{version}{SOURCE.read_text()}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"qgface_pretended_cuda_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    library = folder / f"{mark}.so"
    if not library.exists():
        fresh = folder / f"{mark}.{os.getpid()}.so"
        libraries = torch_folder / "lib"
        subprocess.run(
            ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-o", fresh, SOURCE, "-I", torch_folder / "include",
             "-L", libraries, f"-Wl,-rpath,{libraries}", "-lc10", "-ltorch_cpu"],
            check=True,
        )  # fmt: skip
        fresh.replace(library)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL).register_pretended_cuda()


_load_guard()

import torch  # noqa: E402
from torch.utils import _foreach_utils  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten  # noqa: E402

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
PROJECT = f"{os.sep}qgface_plugin{os.sep}"
BETWEEN = ("_pytree", "_dispatch", "_dynamo", "_compile")  # frames that only lead on
LATE = 50  # launches after which an event's work is taken to be done: a third of the smallest step

# The host has to know a result, or its size.
READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "repeat_interleave",
}  # fmt: skip
# Nothing is launched: memory, and other views of it.
FREE = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "detach", "alias",
    "is_pinned", "set_", "record_stream", "_local_scalar_dense",
}  # fmt: skip
# Take a number from the CPU beside tensors on the device; so do all that torch calls pointwise.
TAKE_NUMBERS = {"fill_", "fill", "masked_fill", "masked_fill_", "where"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class MixedDevices(RuntimeError):
    """What CUDA refuses: tensors of two devices in one operation."""


class Book:
    """What was seen since `clear`.

    Attributes:
        waits: (what, file:line) of each.
        launches: how many operations, by section.
        places: how many, by (section, file:line, operation).
        section: whose launches are counted at present.
        nccl: collectives refuse CPU tensors.
        started: launches since the process began.
    """

    def __init__(self) -> None:
        self.nccl, self.started = False, 0
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.waits: list[tuple[str, str]] = []
        self.launches: Counter[str] = Counter()
        self.places: Counter[tuple[str, str, str]] = Counter()
        self.section = "other"

    def wait(self, what: str) -> None:
        """The host waits for the device here."""
        self.waits.append((what, place()))

    def launch(self, what: str) -> None:
        """Something is started on the device here."""
        self.started += 1
        self.launches[self.section] += 1
        self.places[self.section, place(), what] += 1

    @contextmanager
    def counting(self, section: str) -> Iterator[None]:
        """Launches in the block are the section's."""
        before, self.section = self.section, section
        try:
            yield
        finally:
            self.section = before

    def where_it_waits(self) -> dict[str, int]:
        """Waits by "file:line operation"."""
        return dict(Counter(f"{where} {what}" for what, where in self.waits))


BOOK = Book()


def place() -> str:
    """File and line of the innermost frame in the project; else of the one in torch that led here."""
    frame, torch_frame = sys._getframe(1), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if PROJECT in name:
            return f"{name.rpartition(PROJECT)[2]}:{frame.f_lineno}"
        if not torch_frame and f"{os.sep}torch{os.sep}" in name and not any(x in name for x in BETWEEN):
            torch_frame = f"torch/{name.rpartition(f'{os.sep}torch{os.sep}')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return torch_frame or "autograd"


class Pretended(torch.Tensor):
    """Says that it is on cuda:0; `held`, on the CPU, has the numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> Pretended:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype,
            layout=real.layout, device=CUDA,
        )  # fmt: skip

    def __init__(self, real: torch.Tensor) -> None:
        self.held = real

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})

    def __repr__(self, **_) -> str:
        return f"on cuda:0: {self.held!r}"

    def __reduce_ex__(self, protocol):
        return self.held.detach().__reduce_ex__(protocol)  # saved as from a CPU

    def __deepcopy__(self, memo: dict):
        if id(self) not in memo:
            copy = Pretended(self.held.detach().clone())
            if isinstance(self, torch.nn.Parameter):
                copy = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
            memo[id(self)] = copy.requires_grad_(self.requires_grad)
        return memo[id(self)]


def refuse(what: str) -> None:
    """CUDA would raise here."""
    raise MixedDevices(f"{what}, in {place()}")


def carry_out(func, args: tuple, kwargs: dict):
    """Any operation, on pretended tensors or on others."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with Pretending():  # whole in inference mode; its parts come here
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    space, _, name = func._schema.name.partition("::")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Pretended)]
    asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    on_device = bool(there) if asked is None else asked.type == "cuda"
    if space == "c10d" and (there or BOOK.nccl) and here and not _says_objects():
        refuse(f"NCCL has no CPU tensors: {func}")
    if not there and not on_device:
        return func(*args, **kwargs)
    if name in ("_to_copy", "copy_"):
        return _copied(name, func, args, kwargs, on_device)
    if name == "lift_fresh":
        return args[0]
    if there and here and space != "c10d":
        _check_meeting(func, name, args, there, here)
    _count(name, args)
    if asked is not None:
        kwargs = {**kwargs, "device": CPU}
    flat, shape = tree_flatten((args, kwargs))
    real_args, real_kwargs = tree_unflatten([_real(leaf) for leaf in flat], shape)
    result = func(*real_args, **real_kwargs)
    if not on_device:
        return result
    known = {id(tensor.held): tensor for tensor in there}
    wrapped = tree_map(lambda leaf: _as_on_device(leaf, known), result)
    if func._schema.is_mutable:
        for tensor in there:
            if tensor.shape != tensor.held.shape or tensor.stride() != tensor.held.stride():
                raise NotImplementedError(f"{func} gives a pretended tensor another shape in place, in {place()}")
    aliases = any(returned.alias_info is not None for returned in func._schema.returns) and space != "c10d"
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if aliases else wrapped


def _real(leaf):
    return leaf.held if isinstance(leaf, Pretended) else leaf


def _as_on_device(leaf, known: dict[int, Pretended]):
    if not isinstance(leaf, torch.Tensor) or isinstance(leaf, Pretended):
        return leaf
    return known.get(id(leaf)) if id(leaf) in known else Pretended(leaf)


def _check_meeting(func, name: str, args: tuple, there: list, here: list) -> None:
    """May tensors of both devices meet in this operation?"""
    if name in INDEXING and isinstance(args[0], Pretended):
        value = args[2] if "put" in name else None
        if isinstance(value, torch.Tensor) and not isinstance(value, Pretended) and value.ndim:
            refuse(f"{func}: the values are on the CPU")
        if any(isinstance(leaf, torch.Tensor) and not isinstance(leaf, Pretended) for leaf in tree_leaves(args[1])):
            BOOK.wait(f"{name} by indices on the CPU")
        return
    takes_numbers = torch.Tag.pointwise in func.tags or name in TAKE_NUMBERS or name.startswith("_foreach_")
    if any(tensor.ndim for tensor in here) or not takes_numbers:
        shapes = [f"cuda {tuple(t.shape)}" for t in there] + [f"cpu {tuple(t.shape)}" for t in here]
        refuse(f"{func} of {', '.join(shapes)}")


def _count(name: str, args: tuple) -> None:
    masks = name in INDEXING and any(
        isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1])
    )
    if masks and "put" in name and isinstance(args[2], torch.Tensor) and args[2].numel() == 1:
        masks = False  # becomes masked_fill
    if name in READS or masks:
        BOOK.wait(f"{name} by a mask" if masks else name)
    if name not in FREE and not _is_view(name):
        BOOK.launch(name)


def _is_view(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    overloads = () if packet is None else (getattr(packet, overload) for overload in packet.overloads())
    return name == "_unsafe_view" or any(overload.is_view for overload in overloads)


def _copied(name: str, func, args: tuple, kwargs: dict, on_device: bool):
    """The two operations that cross from one device to the other."""
    if name == "copy_":
        target, source, *rest = args
        waits = not (rest[0] if rest else kwargs.get("non_blocking", False))
        _count_copy(source, target, waits)
        _real(target).copy_(_real(source))
        return target
    (source,) = args
    if "device" in kwargs:
        kwargs = {**kwargs, "device": CPU}
    copy = func(_real(source), **kwargs)
    if copy.untyped_storage().data_ptr() == _real(source).untyped_storage().data_ptr():
        copy = copy.clone()
    result = Pretended(copy) if on_device else copy
    _count_copy(source, result, not kwargs.get("non_blocking", False))
    return result


def _count_copy(source: torch.Tensor, target: torch.Tensor, waits: bool) -> None:
    """Between host and device only a copy from or into page-locked memory that is asked not to wait does not."""
    BOOK.launch("copy")
    if isinstance(source, Pretended) == isinstance(target, Pretended):
        return
    to_host = isinstance(source, Pretended)
    direction = "to the host" if to_host else "to the device"
    if waits:
        BOOK.wait(f"a copy {direction}")
    elif not is_pinned(target if to_host else source):
        BOOK.wait(f"a copy {direction}, of memory that is not page-locked")


_PINNED: dict[int, torch.Tensor] = {}  # kept, so that no other memory gets its address


def pinned(tensor: torch.Tensor, *_) -> torch.Tensor:
    """A copy in what counts as page-locked memory."""
    copy = tensor.clone(memory_format=torch.preserve_format)
    _PINNED[_storage(copy).data_ptr()] = copy
    return copy


def is_pinned(tensor: torch.Tensor, *_) -> bool:
    """Whether `pinned` has made the memory."""
    return not isinstance(tensor, Pretended) and _storage(tensor).data_ptr() in _PINNED


class Event:
    """Of a stream; waited for at once it makes the host wait, later not."""

    def __init__(self, *_, **__) -> None:
        self._launched = -LATE

    def record(self, *_) -> None:
        self._launched = BOOK.started

    def synchronize(self) -> None:
        if BOOK.started - self._launched < LATE:
            BOOK.wait("an event of just now")

    def wait(self, *_) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, _) -> float:
        return 1.0


class Stream:
    """A stream, of which there is one."""

    def __init__(self, *_, **__) -> None: ...

    def record_event(self, *_) -> Event:
        event = Event()
        event.record()
        return event

    def wait_event(self, *_) -> None: ...

    def wait_stream(self, *_) -> None: ...

    def synchronize(self) -> None:
        BOOK.wait("a stream")


class Generator(torch.Generator):
    """One of a GPU, which is one of the CPU."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


class Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})


_storage, _tolist, _numpy = torch.Tensor.untyped_storage, torch.Tensor.tolist, torch.Tensor.numpy


def _tolist_there(tensor: torch.Tensor):
    if isinstance(tensor, Pretended):
        BOOK.wait("tolist")
    return _tolist(_real(tensor))


def _numpy_there(tensor: torch.Tensor, **options):
    if isinstance(tensor, Pretended):
        refuse("numpy() of a CUDA tensor")
    return _numpy(tensor, **options)


@contextmanager
def pretended_cuda() -> Iterator[Book]:
    """A block in which torch has one GPU; what is seen in it."""
    in_torch_cuda = dict(
        is_available=lambda: True, device_count=lambda: 1, current_device=lambda: 0, set_device=lambda *_: None,
        is_initialized=lambda: True, _lazy_init=lambda: None, init=lambda: None, is_bf16_supported=lambda *_: True,
        get_device_name=lambda *_: "pretended GPU", get_device_capability=lambda *_: (8, 0),
        synchronize=lambda *_: BOOK.wait("synchronize"), Stream=Stream, Event=Event,
        stream=lambda _: nullcontext(), current_stream=lambda *_: Stream(), empty_cache=lambda: None,
        get_rng_state=lambda *_: torch.get_rng_state(), set_rng_state=lambda *_: None,
        get_rng_state_all=lambda: [torch.get_rng_state()], set_rng_state_all=lambda *_: None,
        manual_seed=lambda *_: None, manual_seed_all=lambda *_: None, memory_allocated=lambda *_: 0,
        max_memory_allocated=lambda *_: 0, memory_reserved=lambda *_: 0, reset_peak_memory_stats=lambda *_: None,
    )  # fmt: skip
    in_tensor = dict(
        pin_memory=pinned, is_pinned=is_pinned, record_stream=lambda *_: None, tolist=_tolist_there,
        numpy=_numpy_there, untyped_storage=lambda tensor: _storage(_real(tensor)),
    )  # fmt: skip
    foreach = [torch.Tensor, torch.nn.Parameter, Pretended]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **in_torch_cuda))
        stack.enter_context(mock.patch.multiple(torch.Tensor, **in_tensor))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(_foreach_utils, "_foreach_supported_types", foreach))
        # else Module.to puts other memory under a parameter in place, which a wrapper cannot follow
        stack.enter_context(mock.patch.object(torch, "_has_compatible_shallow_copy_type", lambda *_: False))
        lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(..., device="cuda")` is a copy from the host
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        stack.enter_context(Pretending())
        yield BOOK


def _says_objects() -> bool:
    """Whether a collective belongs to one of plain objects, which torch moves to the device itself."""
    frame, names = sys._getframe(1), ("all_gather_object", "broadcast_object_list", "barrier", "destroy_process_group")
    while frame is not None:
        if frame.f_code.co_name in names:
            return True
        frame = frame.f_back
    return False
