"""Flower's SecAgg+ on given vectors, as a baseline for the masked sum.

What runs is Flower's own code: `SecAggPlusWorkflow` at the server and `secaggplus_mod` at each
site. Only their carrier is ours: messages are handed over in memory, without serialising, without
processes and without the simulation engine, so that neither a network nor Ray is measured. Nothing
is trained, no message is lost, no site drops out.

Not the same work as ours, and both differences are in Flower's favour:

- its ring has 32 bits (values clipped to +-8 and rounded to 22 bits), kept in int64 arrays;
- its masks come from the Mersenne Twister, seeded with a key folded to 32 bits
  (`secaggplus_utils.pseudo_rand_gen`), not from a cryptographic generator.

Flower pins protobuf below 7 and cannot be installed beside Cohortium. It therefore runs in an
interpreter of its own (`run_in`), which needs nothing but `pip install flwr`:

    python -m venv flower && flower/bin/pip install "flwr>=1.41"

This module imports only the standard library and numpy, and Flower when it is called.
"""

from __future__ import annotations

import copy
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

CLIPPING = 8.0
LEVELS = 2**22
MODULUS = 2**32
STAGES = ("setup", "share_keys", "collect_masked_vectors", "unmask")


class FlowerMissingError(RuntimeError):
    """There is no Flower in this interpreter."""


@dataclass(frozen=True)
class FlowerRound:
    """One round of SecAgg+.

    Attributes:
        seconds: Wall time of the four stages, over all sites and the server.
        stages_s: The same, of each stage: setup, share_keys, collect_masked_vectors, unmask. The
            second and last hold Shamir's scheme, in pure Python at Flower.
        masking_s: Median over the sites of the processor time of the third stage: shares
            decrypted, quantised, masked, serialised.
        largest_error: Of the mean that came out, in any component.
    """

    flwr: str
    n_sites: int
    num_shares: int
    threshold: int
    threads: int
    seconds: float
    stages_s: dict[str, float]
    masking_s: float
    largest_error: float


def threshold_of(n_sites: int) -> int:
    """Shares that rebuild a secret: two thirds and one, as in our default."""
    return 2 * n_sites // 3 + 1


def run(
    vectors: Sequence[Vector], *, num_shares: int | None = None, threads: int = 2
) -> FlowerRound:
    """One whole round in this process.

    Args:
        vectors: One of each site, float64, all of one shape, |x| < 8; at most 1023.
        num_shares: Size of a site's neighbourhood with itself, odd; all sites where None.
        threads: Sites that work at the same time.

    Raises:
        FlowerMissingError: With what to install.
    """
    _load()
    from flwr.server.workflow import SecAggPlusWorkflow

    n = len(vectors)
    shares = n if num_shares is None else num_shares
    threshold = threshold_of(shares)
    every = threshold == shares  # Flower takes a threshold of all shares only as a proportion
    workflow = SecAggPlusWorkflow(
        num_shares=1.0 if shares == n else shares,
        reconstruction_threshold=1.0 if every else threshold,
        max_weight=1.0,  # each site has the weight 1, so nothing is scaled before rounding
        clipping_range=CLIPPING,
        quantization_range=LEVELS,
        modulus_range=MODULUS,
    )
    stages_s: dict[str, float] = {}
    for stage in STAGES:
        setattr(workflow, f"{stage}_stage", _timed(workflow, stage, stages_s))
    with ThreadPoolExecutor(threads) as pool:
        grid, context = _Grid(vectors, pool), _server(n)
        began = time.perf_counter()
        workflow(grid, context)
        seconds = time.perf_counter() - began

    from flwr.common import parameters_to_ndarrays

    if context.strategy.aggregated is None:
        raise RuntimeError("Flower's round did not complete; see its log")
    (mean,) = parameters_to_ndarrays(context.strategy.aggregated)
    error = float(np.max(np.abs(mean - sum(vectors) / n)))
    if error > 2 * CLIPPING / LEVELS:
        raise RuntimeError(f"Flower's mean is off by {error}")
    return FlowerRound(
        flwr=_version(),
        n_sites=n,
        num_shares=shares,
        threshold=threshold,
        threads=threads,
        seconds=seconds,
        stages_s=stages_s,
        masking_s=median(grid.masking_s),
        largest_error=error,
    )


def run_in(
    python: str | Path,
    vectors: Sequence[Vector],
    *,
    repeats: int = 5,
    warm_ups: int = 1,
    num_shares: int | None = None,
    threads: int = 2,
    timeout_s: float = 1800,
) -> list[FlowerRound]:
    """Rounds of `run` by another interpreter, the one that has Flower, on the same vectors.

    Raises:
        FlowerMissingError: Where `python` is no interpreter, or has no Flower.
    """
    interpreter = shutil.which(python)
    if interpreter is None:
        raise FlowerMissingError(f"{python} is no Python interpreter")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.npy")
        np.save(path, np.stack(vectors))
        order = {
            "path": str(path),
            "repeats": repeats,
            "warm_ups": warm_ups,
            "num_shares": num_shares,
            "threads": threads,
        }
        done = subprocess.run(
            [Path(interpreter).absolute(), "-c", "import flower_secagg; flower_secagg.serve()"],
            input=json.dumps(order),
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    if done.returncode == 3:
        raise FlowerMissingError(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"Flower ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return [FlowerRound(**made) for made in json.loads(done.stdout.splitlines()[-1])]


def serve() -> None:
    """The other end of `run_in`: an order on standard input, the rounds on standard output."""
    order = json.load(sys.stdin)
    try:
        _load()
    except FlowerMissingError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    vectors = list(np.load(order["path"]))
    rounds = [
        run(vectors, num_shares=order["num_shares"], threads=order["threads"])
        for _ in range(order["warm_ups"] + order["repeats"])
    ]
    print(json.dumps([asdict(made) for made in rounds[order["warm_ups"] :]]))


def _load() -> None:
    """Import Flower, silenced and without telemetry, or say how to get it."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        for module in ("flwr.client.mod", "flwr.server.workflow"):
            importlib.import_module(module)
    except ImportError as error:
        raise FlowerMissingError(
            f"Flower cannot be imported by {sys.executable} ({error}). It needs an environment of "
            'its own: python -m venv flower && flower/bin/pip install "flwr>=1.41"; then name '
            "flower/bin/python with --flower-python."
        ) from error
    logging.getLogger("flwr").setLevel(logging.WARNING)
    try:  # From 1.41 on a message takes its sender from the process's task.
        from flwr.supercore.task_identity import TaskIdentity
    except ImportError:
        return
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def _version() -> str:
    from importlib.metadata import version

    return version("flwr")


def _timed(workflow: Any, stage: str, seconds: dict[str, float]) -> Callable[..., bool]:
    step = getattr(workflow, f"{stage}_stage")

    def timed(*arguments: Any) -> bool:
        began = time.perf_counter()
        went_on: bool = step(*arguments)
        seconds[stage] = time.perf_counter() - began
        return went_on

    return timed


def _server(n_sites: int) -> Any:
    """Flower's server state: `n_sites` to ask, an aggregate to keep, nothing to train."""
    from flwr.common import ConfigRecord, Context, FitIns, Parameters, RecordDict
    from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord
    from flwr.server import LegacyContext, SimpleClientManager
    from flwr.server.strategy import FedAvg

    class Proxy:
        def __init__(self, node_id: int) -> None:
            self.node_id = node_id

    class Keep(FedAvg):
        """The mean as it comes out of the secure sum."""

        aggregated: Parameters | None = None

        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
            return [(Proxy(node), FitIns(parameters, {})) for node in range(1, n_sites + 1)]

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            if failures or len(results) != n_sites:
                raise RuntimeError(f"{len(results)} results, failures {failures}")
            self.aggregated = results[0][1].parameters
            return None, {}

    state = RecordDict(
        {
            "config": ConfigRecord({"current_round": 1}),
            "parameters": parameters_to_arrayrecord(Parameters([], "numpy.ndarray"), True),
        }
    )
    context = Context(run_id=1, node_id=0, node_config={}, state=state, run_config={})
    return LegacyContext(context, strategy=Keep(), client_manager=SimpleClientManager())


class _Grid:
    """Flower's `Grid` as far as the workflow uses it: each message goes straight to its site."""

    def __init__(self, vectors: Sequence[Vector], pool: ThreadPoolExecutor) -> None:
        from flwr.common import Context, RecordDict

        self._vectors = vectors
        self._pool = pool
        self._contexts = [
            Context(run_id=1, node_id=i + 1, node_config={}, state=RecordDict(), run_config={})
            for i in range(len(vectors))
        ]
        self.masking_s: list[float] = []

    def send_and_receive(
        self, messages: Iterable[Any], *, timeout: float | None = None
    ) -> list[Any]:
        return list(self._pool.map(self._answer, messages))

    def _answer(self, message: Any) -> Any:
        from flwr.client.mod import secaggplus_mod
        from flwr.common.secure_aggregation.secaggplus_constants import (
            RECORD_KEY_CONFIGS,
            Key,
            Stage,
        )

        index = message.metadata.dst_node_id - 1
        message.content = copy.deepcopy(message.content)  # a site takes its message apart
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        began = time.thread_time()
        answer = secaggplus_mod(message, self._contexts[index], self._train)
        if stage == Stage.COLLECT_MASKED_VECTORS:
            self.masking_s.append(time.thread_time() - began)
        return answer

    def _train(self, message: Any, context: Any) -> Any:
        """What the site's own code would answer: its vector."""
        from flwr.common import Code, FitRes, Message, Status, ndarrays_to_parameters
        from flwr.compat.common.recorddict_compat import fitres_to_recorddict

        parameters = ndarrays_to_parameters([self._vectors[context.node_id - 1]])
        fit = FitRes(Status(Code.OK, ""), parameters, num_examples=1, metrics={})
        return Message(fitres_to_recorddict(fit, keep_input=False), reply_to=message)
