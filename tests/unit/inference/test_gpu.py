"""service.inference.gpu: what can be known of it without a GPU, and with one that it answers as the CPU does."""

import ctypes
import logging
import mmap
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, RunnerFailed
from service.inference import gpu
from service.inference.artifact import Artifact, ModelStore, NetworkManifest
from service.inference.device import CPU, CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, Device, Tuning, choose_device
from service.inference.gpu import (
    BoundSession,
    GpuNetwork,
    cuda_options,
    device_memory,
    open_gpu_network,
    pinned_buffer,
    tensorrt_options,
    usable_cache,
)
from service.inference.network import open_network
from service.inference.runner import OnnxNetwork, batch_sizes, open_session
from service.settings import shipped_model_store
from tests.fakes import echo_runner
from tests.unit.inference.test_device import with_cuda, with_tensorrt

TUNING = Tuning(gpu_mem_limit_bytes=512 * 2**20)


def artifact() -> Artifact:
    return ModelStore(shipped_model_store()).find("timeconv-mini-xception", "network")


def manifest() -> NetworkManifest:
    found = artifact().manifest
    assert isinstance(found, NetworkManifest)
    return found


def windows(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 48, 48), np.uint8)


class Sized:
    """A network of one size that remembers what it was run with, and by which thread."""

    def __init__(self, size: int) -> None:
        self.rows = np.zeros((size, 5, 48, 48), np.uint8)
        self.runs = 0
        self.threads = {threading.get_ident()}
        self.inside = threading.Semaphore(1)

    def run(self) -> NDArray[np.float32]:
        assert self.inside.acquire(blocking=False), "two runs at once"
        self.runs += 1
        self.threads.add(threading.get_ident())
        answers = echo_runner(self.rows)
        self.inside.release()
        return answers


class Fixed:
    """A network of fixed sizes, all of them fakes."""

    def __init__(self, *sizes: int) -> None:
        self.sizes: dict[int, Sized] = {}
        self.network = GpuNetwork(self.open, sizes, {})

    def open(self, size: int) -> Sized:
        self.sizes[size] = Sized(size)
        return self.sizes[size]

    @property
    def ran(self) -> list[int]:
        return [size for size, fixed in self.sizes.items() for _ in range(fixed.runs)]


class TestGpuNetwork:
    @pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)])
    def test_next_fixed_size(self, count: int, size: int) -> None:
        """A batch runs at the smallest size that holds it, and each window gets its own answer, no more."""
        fixed = Fixed(1, 2, 4, 8)
        np.testing.assert_array_equal(echo_runner(windows(count)), fixed.network(windows(count)))
        assert fixed.ran == [size]

    def test_padding_is_not_answered(self) -> None:
        """What an earlier batch left in the buffer takes no part in a smaller one's answers."""
        fixed = Fixed(4)
        fixed.network(windows(4))
        np.testing.assert_array_equal(echo_runner(windows(2, seed=1)), fixed.network(windows(2, seed=1)))

    def test_too_many(self) -> None:
        """More windows than the largest size holds are a failure, and the next batch is answered."""
        fixed = Fixed(1, 2)
        with pytest.raises(RunnerFailed, match="3 windows, but batches hold up to 2"):
            fixed.network(windows(3))
        assert fixed.network(windows(2)).shape == (2, 7)

    @pytest.mark.parametrize(
        "wrong", [np.zeros((1, 5, 48, 48), np.float32), np.zeros((1, 1, 48, 48), np.uint8), np.zeros(4, np.uint8)]
    )
    def test_wrong_input(self, wrong: NDArray[Any]) -> None:
        """What is no window is refused, not converted into the buffer."""
        with pytest.raises(RunnerFailed, match="Not windows"):
            Fixed(1).network(wrong)

    def test_failure(self) -> None:
        """An error of the device is the runner's, and the next batch is answered."""
        fixed = Fixed(1)
        fixed.sizes[1].rows.flags.writeable = False
        with pytest.raises(RunnerFailed, match=r"ValueError: .*read-only"):
            fixed.network(windows(1))
        fixed.sizes[1].rows.flags.writeable = True
        assert fixed.network(windows(1)).shape == (1, 7)

    def test_one_thread_feeds_it(self) -> None:
        """Whoever calls, one thread of its own opens and runs all sizes, and every caller gets its own answer."""
        fixed = Fixed(1, 2, 4)
        answers: dict[int, NDArray[np.float32]] = {}

        def call(seed: int) -> None:
            for _ in range(20):
                answers[seed] = fixed.network(windows(1 + seed % 4, seed))

        callers = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(30)
        for seed in range(6):
            np.testing.assert_array_equal(echo_runner(windows(1 + seed % 4, seed)), answers[seed])
        (feeder,) = set().union(*(sized.threads for sized in fixed.sizes.values()))
        assert feeder not in {caller.ident for caller in callers} | {threading.get_ident()}

    def test_no_thread_is_left(self) -> None:
        """A network that nobody holds any more leaves no thread behind."""
        fixed = Fixed(1)
        (feeder,) = [thread for thread in threading.enumerate() if thread.ident in fixed.sizes[1].threads]
        assert feeder.daemon
        del fixed
        feeder.join(30)
        assert not feeder.is_alive()

    def test_a_size_that_cannot_be_opened(self) -> None:
        """What goes wrong while a size is opened is the caller's to hear."""
        with pytest.raises(MemoryError):
            GpuNetwork(lambda _: (_ for _ in ()).throw(MemoryError), [1], {})


class TestBoundSession:
    """Bound buffers are not CUDA's alone, so the way through them is the CPU's here."""

    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_answers(self, count: int) -> None:
        """Through bound buffers of fixed sizes each window gets what an ordinary session says of it, run after run."""
        session = open_session(artifact().read(), [CPU_PROVIDER])

        def open_size(size: int) -> BoundSession:
            return BoundSession(
                session,
                manifest(),
                size,
                graph_id=size,
                device="cpu",
                host_buffer=lambda shape: np.empty(shape, np.uint8),
            )

        network, reference = GpuNetwork(open_size, batch_sizes(8), {}), OnnxNetwork(artifact(), CPU)
        for seed in range(3):
            expected = reference(windows(count, seed))
            np.testing.assert_allclose(network(windows(count, seed)), expected, atol=1e-5)


class TestOptions:
    def test_cuda(self) -> None:
        """CUDA searches by heuristic, takes what it needs within the limit, computes in f32 and captures graphs."""
        assert cuda_options(TUNING, graphs=True) == {
            "device_id": "0",
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
            "gpu_mem_limit": "536870912",
            "use_tf32": "0",
            "enable_cuda_graph": "1",
        }
        assert cuda_options(TUNING, graphs=False)["enable_cuda_graph"] == "0"

    def test_tensorrt(self, tmp_path: Path) -> None:
        """TensorRT gets one shape, f32, graphs and a folder for engines of that size."""
        options = tensorrt_options(TUNING, manifest(), 8, tmp_path, graphs=True)
        for bound in ("min", "opt", "max"):
            assert options[f"trt_profile_{bound}_shapes"] == "window:8x5x48x48"
        assert (options["trt_fp16_enable"], options["trt_cuda_graph_enable"]) == ("False", "True")
        assert (options["trt_engine_cache_enable"], options["trt_timing_cache_enable"]) == ("True", "True")
        assert (options["trt_engine_cache_path"], options["trt_timing_cache_path"]) == (
            str(tmp_path / "batch-8"),
            str(tmp_path),
        )

    def test_tensorrt_without_a_cache(self) -> None:
        """Without a folder nothing is kept."""
        assert not [name for name in tensorrt_options(TUNING, manifest(), 8, None, graphs=True) if "cache" in name]

    def test_known(self) -> None:
        """This ONNX Runtime knows the names of all options: they stand in its libraries."""
        capi = Path(gpu.ort.__file__).parent / "capi"
        for part, options in (
            ("cuda", cuda_options(TUNING, graphs=True)),
            ("tensorrt", tensorrt_options(TUNING, manifest(), 1, Path(), graphs=True)),
        ):
            library = capi / f"libonnxruntime_providers_{part}.so"
            if not library.is_file():
                pytest.skip("no CUDA here: this onnxruntime is built without it")
            with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                assert [name for name in options if content.find(name.encode()) < 0] == []


class TestEngineCache:
    def test_made(self, tmp_path: Path) -> None:
        """A folder that is not there is made, and stays empty."""
        folder = tmp_path / "engines" / "network@1"
        assert usable_cache(folder) == folder
        assert list(folder.iterdir()) == []

    def test_not_writable(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A place where no folder can be is a warning, and then nothing is kept."""
        (tmp_path / "file").touch()
        with caplog.at_level(logging.WARNING):
            assert usable_cache(tmp_path / "file" / "engines") is None
        assert "engines are not kept" in caplog.text

    def test_full(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A disk that takes files but no content is a warning, and then nothing is kept."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with caplog.at_level(logging.WARNING):
                assert usable_cache(tmp_path) is None
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "engines are not kept" in caplog.text
        assert list(tmp_path.iterdir()) == []


class FakeDriver:
    """libcuda that gives page-locked memory, or answers an error."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.memory = (ctypes.c_uint8 * 64)()

    def cuMemHostAlloc(self, address: Any, size: ctypes.c_size_t, flags: int) -> int:  # noqa: N802 - the driver's name
        assert (size.value, flags) == (64, 1)
        if not self.code:
            address._obj.value = ctypes.addressof(self.memory)
        return self.code


class TestPinnedBuffer:
    def test_memory_of_the_driver(self) -> None:
        """The buffer is the driver's memory, in the shape that was asked for."""
        driver = FakeDriver(0)
        buffer = pinned_buffer((2, 4, 8), load=lambda _: driver)  # type: ignore[arg-type, return-value] # a fake library
        assert (buffer.shape, buffer.dtype, buffer.flags.writeable) == ((2, 4, 8), np.uint8, True)
        buffer[1, 3, 7] = 42
        assert driver.memory[63] == 42

    def test_none_to_be_had(self, caplog: pytest.LogCaptureFixture) -> None:
        """A driver that gives none is a warning; ordinary memory does the same, more slowly."""
        driver = FakeDriver(2)
        with caplog.at_level(logging.WARNING):
            buffer = pinned_buffer((64,), load=lambda _: driver)  # type: ignore[arg-type, return-value] # a fake library
        assert (buffer.shape, buffer.dtype) == ((64,), np.uint8)
        assert "answers 2" in caplog.text


class MemoryDriver:
    """libcuda of a GPU with 80 bytes, 50 of them free; one of its calls may answer an error."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.retained = self.pushed = 0
        self.modes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: 999 if name == self.fails else getattr(self, f"_{name}")(*arguments)

    def _cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name, as those below
        return flags

    def _cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = 7 + ordinal
        return 0

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:  # noqa: N802
        assert device.value == 7
        context._obj.value = 4096
        self.retained += 1
        return 0

    def _cuDevicePrimaryCtxRelease_v2(self, device: ctypes.c_int) -> int:  # noqa: N802
        assert device.value == 7
        self.retained -= 1
        return 0

    def _cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        assert context.value == 4096
        self.pushed += 1
        return 0

    def _cuCtxPopCurrent_v2(self, context: Any) -> int:  # noqa: N802
        assert context._obj.value == 4096
        self.pushed -= 1
        return 0

    def _cuThreadExchangeStreamCaptureMode(self, mode: Any) -> int:  # noqa: N802
        self.modes.append(mode._obj.value)
        mode._obj.value = 0
        return 0

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        assert (self.retained, self.pushed, self.modes) == (1, 1, [2])
        free._obj.value, total._obj.value = 50, 80
        return 0


class TestDeviceMemory:
    def test_what_the_driver_says(self) -> None:
        """Used and total, in the context of ONNX Runtime, disturbing no capture; all is left as it was."""
        driver = MemoryDriver()
        assert device_memory(lambda _: driver) == {"used": 30, "total": 80}  # type: ignore[arg-type, return-value] # a fake
        assert (driver.retained, driver.pushed, driver.modes) == (0, 0, [2, 0])

    @pytest.mark.parametrize(
        "call", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
    )
    def test_a_driver_that_fails(self, call: str) -> None:
        """Nothing is said, and nothing is held on to."""
        driver = MemoryDriver(call)
        assert device_memory(lambda _: driver) == {}  # type: ignore[arg-type, return-value] # a fake library
        assert (driver.retained, driver.pushed) == (0, 0)

    def test_no_driver(self) -> None:
        """Nothing is said."""

        def missing(name: str) -> ctypes.CDLL:
            raise OSError(name)

        assert device_memory(missing) == {}


class FakeRuntime:
    """An ONNX Runtime with a GPU: remembers what sessions were opened for, and what was bound to them."""

    def __init__(self, *, graphs: bool = True) -> None:
        self.graphs = graphs
        self.opened: list[dict[str, dict[str, str]]] = []
        self.bound: list[tuple[int, int, int]] = []

    def open_session(self, _content: bytes, providers: list[tuple[str, dict[str, str]]]) -> "FakeRuntime":
        options = {name: value for _, options in providers for name, value in options.items()}
        if not self.graphs and options["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature")
        self.opened.append(dict(providers))
        return self

    def get_providers(self) -> list[str]:
        return list(self.opened[-1])

    def bind(self, _session: object, _manifest: NetworkManifest, size: int, *, graph_id: int) -> Sized:
        self.bound.append((len(self.opened), size, graph_id))
        return Sized(size)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """In the place of ONNX Runtime's own, which wants a GPU."""
    runtime = FakeRuntime()
    monkeypatch.setattr(gpu, "open_session", runtime.open_session)
    monkeypatch.setattr(gpu, "BoundSession", runtime.bind)
    return runtime


class TestOpen:
    def test_cuda(self, runtime: FakeRuntime) -> None:
        """On CUDA one session serves all sizes, each with a graph of its own."""
        network = open_gpu_network(artifact(), Device("cuda", (CUDA_PROVIDER,)), TUNING, [1, 2, 4])
        assert runtime.opened == [{CUDA_PROVIDER: cuda_options(TUNING, graphs=True)}]
        assert runtime.bound == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
        assert network.options == cuda_options(TUNING, graphs=True)
        assert network(windows(3)).shape == (3, 7)

    def test_tensorrt(self, runtime: FakeRuntime, tmp_path: Path) -> None:
        """On TensorRT each size has a session of its own, with CUDA for nodes that TensorRT does not know."""
        tuning = Tuning(engine_cache=tmp_path)
        open_gpu_network(artifact(), Device("tensorrt", (TENSORRT_PROVIDER, CUDA_PROVIDER)), tuning, [1, 2])
        assert runtime.bound == [(1, 1, 0), (2, 2, 0)]
        for size, opened in zip((1, 2), runtime.opened, strict=True):
            assert list(opened) == [TENSORRT_PROVIDER, CUDA_PROVIDER]
            assert opened[TENSORRT_PROVIDER]["trt_profile_max_shapes"] == f"window:{size}x5x48x48"
            assert opened[CUDA_PROVIDER] == cuda_options(tuning, graphs=False)
        folders = [Path(opened[TENSORRT_PROVIDER]["trt_engine_cache_path"]) for opened in runtime.opened]
        assert [folder.name for folder in folders] == ["batch-1", "batch-2"]
        assert folders[0].parents[1] == tmp_path / artifact().spec
        assert manifest().sha256.startswith(folders[0].parent.name)

    def test_without_graphs(self, runtime: FakeRuntime, caplog: pytest.LogCaptureFixture) -> None:
        """A network that cannot be captured runs without graphs, and that is said."""
        runtime.graphs = False
        with caplog.at_level(logging.WARNING):
            network = open_gpu_network(artifact(), Device("cuda", (CUDA_PROVIDER,)), TUNING, [1])
        assert network.options["enable_cuda_graph"] == "0"
        assert "without CUDA graphs, which is slower: This session cannot" in caplog.text


def test_a_device_that_onnx_runtime_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    """A network that ONNX Runtime would run elsewhere is refused, after one try without CUDA graphs."""
    if choose_device("auto").fallback is None:
        pytest.skip("CUDA can be had here")
    with caplog.at_level(logging.WARNING), pytest.raises(DeviceUnavailable, match="does not run on cuda"):
        open_gpu_network(artifact(), Device("cuda", (CUDA_PROVIDER,)), TUNING, [1])
    assert "without CUDA graphs" in caplog.text


@with_cuda
def test_cuda(caplog: pytest.LogCaptureFixture) -> None:
    """On CUDA, with graphs, every size answers as the CPU does, and keeps doing so."""
    with caplog.at_level(logging.WARNING):
        opened = open_network(artifact(), choose_device("cuda"), TUNING, max_batch=32)
    assert caplog.text == ""
    reference = OnnxNetwork(artifact(), CPU)
    for count in range(1, 33):
        np.testing.assert_allclose(opened.runner(windows(count, count)), reference(windows(count, count)), atol=1e-3)


@with_tensorrt
def test_tensorrt(tmp_path: Path) -> None:
    """On TensorRT every size answers as the CPU does, and its engine is kept."""
    tuning = Tuning(engine_cache=tmp_path)
    opened = open_network(artifact(), choose_device("tensorrt"), tuning, max_batch=4)
    reference = OnnxNetwork(artifact(), CPU)
    for count in range(1, 5):
        np.testing.assert_allclose(opened.runner(windows(count, count)), reference(windows(count, count)), atol=0.05)
    for size in (1, 2, 4):
        assert list(tmp_path.rglob(f"batch-{size}/*.engine"))
