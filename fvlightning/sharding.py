"""Training with weights that are split over the devices: PyTorch's FSDP2, as ``--trainer.strategy fsdp2``."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from typing_extensions import override

from fvlightning.averaging import averages_of
from fvlightning.errors import InputError

_OTHERS = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")  # which shard weights
_LISTS = (nn.Sequential, nn.ModuleList)


class FSDP2Strategy(ModelParallelStrategy):
    """Splits weights, gradients and optimiser states over all devices; checkpoints have them whole, as one file.

    The network, the LightningModule's ``net``, is gathered block by block when it runs. Its blocks are the modules with
    modules inside that stand in a `nn.Sequential` or `nn.ModuleList`, as in timm's networks. Statistics of batch norms
    are those of each device, and in checkpoints those of the first, unless ``sync_batchnorm`` is on. See
    https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html.

    Raises:
        InputError: When training starts: weights of the LightningModule are not in its ``net``.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)
        self._template: nn.Module | None = None

    @override
    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def setup(self, trainer: pl.Trainer) -> None:
        module: Any = self.lightning_module
        if trainer.state.fn == TrainerFn.FITTING:
            if not set(module.parameters()) <= set(_network(module).parameters()):
                raise InputError(f"fsdp2 splits the weights in net, and {type(module).__name__} has others; use ddp")
            if self._layer_sync:
                self._layer_sync.apply(module)
            if not isinstance(module.net, FSDPModule):
                self._template = _without_weights(module.net)
            averages = averages_of(trainer)
            for network in (module.net, *(one._average_model.module.net for one in averages)):  # type: ignore[union-attr]
                self._shard(network)
        module.configure_model = lambda: None  # where Lightning expects a module to shard itself
        try:
            super().setup(trainer)
        finally:
            del module.configure_model

    def _shard(self, network: nn.Module) -> None:
        if isinstance(network, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        lists = [module for module in network.modules() if isinstance(module, _LISTS)]
        for block in reversed([block for blocks in lists for block in blocks]):  # those inside of others come first
            if not isinstance(block, (FSDPModule, *_LISTS)) and next(block.children(), None) is not None:
                fully_shard(block, mesh=mesh)
        # By default what is outside of blocks would stay gathered after a forward pass: no averages could be taken.
        fully_shard(network, mesh=mesh, reshard_after_forward=True)

    def whole_network(self) -> nn.Module:
        """Return a copy of the network with all weights, and with the buffers of rank zero. Called on every rank."""
        sharded = _network(self.lightning_module)
        buffers = {name for name, _ in sharded.named_buffers()}
        weights: dict[str, Any] = get_model_state_dict(sharded, options=StateDictOptions(full_state_dict=True))
        for name in sorted(buffers & weights.keys()):
            weights[name] = weights[name].clone()
            torch.distributed.broadcast(weights[name], 0)
        network = copy.deepcopy(self._template)
        assert network is not None
        network.load_state_dict(weights, assign=True)
        return self.precision_plugin.convert_module(network).to(self.root_device)

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        # Averaged weights; Lightning has gathered the others.
        weights = {name: _whole(value) for name, value in checkpoint["state_dict"].items()}
        super().save_checkpoint({**checkpoint, "state_dict": weights}, filepath, storage_options)

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        path = self.broadcast(checkpoint_path)
        checkpoint: dict[str, Any] = torch.load(path, mmap=True, map_location="cpu", weights_only=True)
        module: Any = self.lightning_module
        weights = module.state_dict()
        for key in ("state_dict", "current_model_state"):  # one order on all ranks, which share the weights out
            saved = checkpoint.get(key, {})
            saved.update({name: _split_like(weights.get(name), value) for name, value in saved.items()})
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
        states = checkpoint.get("optimizer_states", [])
        for optimizer, state in zip(self.optimizers if states else [], states, strict=True):
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            for number, parameter in zip(numbers, parameters, strict=False):
                for name, value in state["state"].get(number, {}).items():
                    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                        state["state"][number][name] = _split_like(parameter, value)
            optimizer.load_state_dict(state)
        return checkpoint


StrategyRegistry.register("fsdp2", FSDP2Strategy, description="PyTorch's FSDP2 for the module's net")


@contextmanager
def whole_network(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """Let a module whose weights are split have a copy of its network with all of them. Called on every rank.

    Raises:
        MisconfigurationException: The weights are split by another strategy.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, FSDP2Strategy):
        if any(kind.__name__ in _OTHERS for kind in type(strategy).__mro__):
            raise MisconfigurationException(
                f"no pictures can be made under {type(strategy).__name__}, which splits the weights over devices; use "
                "the strategy 'fsdp2' or 'ddp', or leave the callback out"
            )
        yield
        return
    module: Any = pl_module
    sharded = module.net
    module.net = strategy.whole_network()
    try:
        yield
    finally:
        module.net = sharded


def _network(module: Any) -> nn.Module:
    network = getattr(module, "net", None)
    if not isinstance(network, nn.Module):
        raise InputError(f"fsdp2 splits the weights in net, and {type(module).__name__} has no net; use ddp")
    return network


def _without_weights(network: nn.Module) -> nn.Module:
    """Return a copy of a network with its buffers, whose weights take no memory."""
    empty = {id(one): nn.Parameter(one.to("meta"), one.requires_grad) for one in network.parameters()}
    return copy.deepcopy(network, empty)  # which takes for copied what is in its memory


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _split_like(value: Any, whole: Any) -> Any:
    if not isinstance(value, DTensor):
        return whole
    return distribute_tensor(whole.to(value.device), value.device_mesh, value.placements)
