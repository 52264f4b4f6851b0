"""Detectron2's DefaultTrainer on several processes without GPUs."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from tempfile import NamedTemporaryFile
from types import FunctionType
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, create_ddp_model
from detectron2.engine import launch as launch_of_detectron2
from detectron2.engine.launch import _distributed_worker
from detectron2.utils import comm
from torch import Tensor, distributed, nn
from torch.multiprocessing import ProcessExitedException
from torch.nn.parallel import DistributedDataParallel

from ..data.serialized_records import SerializedRecords

PATIENCE = timedelta(days=30)  # with work that one process does for all


def init_default_trainer(trainer: DefaultTrainer, cfg: CfgNode) -> None:
    """DefaultTrainer.__init__, which also works on several CPU processes.

    Detectron2 gives DistributedDataParallel a GPU's number whatever the device. On CPUs the same code
    runs with a `create_ddp_model` that names no GPU; nothing is changed for anybody else.
    """
    init = DefaultTrainer.__init__
    if comm.get_world_size() > 1 and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        names = {**init.__globals__, "create_ddp_model": _create_ddp_model_on_cpu}
        init = FunctionType(init.__code__, names, closure=init.__closure__)
    init(trainer, cfg)


def _create_ddp_model_on_cpu(model, **options):
    return create_ddp_model(model, device_ids=None, **options)


def launch(main: Callable, args) -> None:
    """Detectron2's; signals reach all processes it starts, and their exit status is the command's.

    Under torchrun this process is one of those, and starts no others: what `args` says of GPUs and machines is not used.

    Args:
        args: of Detectron2's argument parser; handed to `main`.
    """
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys():
        rank, local_rank, size, local_size = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        )
        _distributed_worker(local_rank, main, size, local_size, rank // local_size, "env://", (args,))
        return
    if args.num_gpus > 1 or args.num_machines > 1:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, _pass_on)
    try:
        launch_of_detectron2(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        if error.exit_code < 0:
            raise SystemExit(f"error: a process was ended by {error.signal_name}") from error
        raise SystemExit(error.exit_code) from error


def _pass_on(signum: int, frame) -> None:
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, signum)


def is_of_lost_process(error: RuntimeError) -> bool:
    """Whether it is what an exchange between processes raises when one of them is gone."""
    return isinstance(error, distributed.DistError) or "/gloo/" in str(error)


def synchronise_buffers(model: nn.Module) -> None:
    """Gives every process the main one's buffers, BatchNorm's running statistics among them, which it saves.

    DistributedDataParallel, as Detectron2 builds it, leaves each its own.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


def synchronise_statistics(model: nn.Module) -> None:
    """Gives every process the main one's buffers and number of positives, which RetinaNet and FCOS divide losses by."""
    synchronise_buffers(model)
    if comm.get_world_size() > 1 and hasattr(model, "loss_normalizer"):
        model.loss_normalizer = comm.all_gather(model.loss_normalizer)[0]


def gathered(index: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (B,) and losses (B, T) of all processes, in rank order, by one exchange of tensors on the CPU."""
    if comm.get_world_size() == 1:
        return index, terms
    own = torch.cat([index[:, None].double(), terms.double()], dim=1)  # both fit in without loss
    parts = [torch.empty_like(own) for _ in range(comm.get_world_size())]
    distributed.all_gather(parts, own, group=comm._get_global_gloo_group())
    both = torch.cat(parts)
    return both[:, 0].long(), both[:, 1:].float()


@contextmanager
def patient_group() -> Iterator["distributed.ProcessGroup | None"]:
    """A group for messages, at whose end all processes wait for the slowest, for days if need be.

    Waiting in Detectron2's own groups ends after 30 minutes, and the run with it. None for a single process.
    """
    if comm.get_world_size() == 1:
        yield None
        return
    group: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)  # no number, which strangers to it get
    yield group
    distributed.barrier(group)
    distributed.destroy_process_group(group)


def once_a_machine(load: Callable[[], Sequence[dict]]) -> Sequence[dict]:
    """The records that `load` gives, which the first process of each machine alone reads if they are serialised.

    All processes have to call it. The others map the file that it leaves for them until they have it. Records that are
    no `SerializedRecords`, and what is raised, come from each process's own `load`.
    """
    if comm.get_local_size() == 1:
        return load()
    with ExitStack() as stack:
        records, shared = None, None
        try:
            if comm.get_local_rank() == 0:
                records = load()
                if isinstance(records, SerializedRecords):
                    file = stack.enter_context(NamedTemporaryFile(suffix=".npy"))
                    shared = records.save(file.file), file.name
                    file.flush()
        finally:  # the others wait for it, whatever happens
            with patient_group() as group:
                told = comm.all_gather(shared, group)[comm.get_rank() - comm.get_local_rank()]
                if records is None and told:
                    records = told[0].reading(told[1])
    return load() if records is None else records


def leave_process_groups() -> None:
    """Destroys the process groups that Detectron2's `launch` made and `comm` holds, at the end of a process.

    A process that exits while it holds a group of gloo's is aborted now and then ("terminate called without an
    active exception"), and the command reports a failure.
    """
    if not distributed.is_initialized():
        return
    comm.synchronize()
    comm._LOCAL_PROCESS_GROUP = None
    comm.create_local_process_group.cache_clear()
    comm._get_global_gloo_group.cache_clear()
    gc.collect()  # a model around which DistributedDataParallel is, holds one, too
    distributed.destroy_process_group()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, also when DistributedDataParallel is around it."""
    return model.module if isinstance(model, DistributedDataParallel) else model
