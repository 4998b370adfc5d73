"""Golden figures of AIMET's toolbox on small layers, for test/baselines/aimet.json.

    /tmp/aimet/bin/pip install aimet-torch==2.42.0
    /tmp/aimet/bin/python scripts/oracle/aimet.py

Weights and inputs are whole numbers over 4096: float32 holds them, and none is halfway between two codes, where AIMET rounds to
even and JavaScript up.
"""
import importlib.machinery
import json
import os
import sys
import types
import warnings
from unittest.mock import MagicMock

warnings.filterwarnings('ignore')


class Stub(types.ModuleType):
    """Stands in for torchvision, which AIMET imports and nothing here calls."""

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return MagicMock()


try:
    import torchvision  # noqa: F401
except ImportError:
    for name in ('torchvision', 'torchvision.datasets', 'torchvision.transforms', 'torchvision.models'):
        sys.modules[name] = Stub(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)

import aimet_torch
import torch
from aimet_torch.cross_layer_equalization import CrossLayerScaling
from aimet_torch.quantization.encoding_analyzer import (
    MinMaxEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)
from aimet_torch.seq_mse import SeqMseParams, SequentialMse
from aimet_torch.v2.nn import QuantizedLinear
from aimet_torch.v2.quantization.affine import QuantizeDequantize

TARGET = os.path.join(os.path.dirname(__file__), '../../test/baselines/aimet.json')
ROWS, COLS, TOKENS, BLOCK = 6, 24, 40, 8


def whole(values):
    return torch.round(values * 4096).to(torch.int64)


def sequential_mse(weight, inputs, bits, symmetric, block):
    """Scale and zero point (a code from 0) of each channel or block, and the quantized weights."""
    layer = QuantizedLinear(COLS, ROWS, bias=False)
    layer.weight.data = weight.clone()
    shape = (ROWS, COLS // block) if block else (ROWS, 1)
    sizes = {'block_size': (1, block)} if block else {}
    layer.param_quantizers['weight'] = QuantizeDequantize(shape, bits, symmetric, **sizes)
    with layer.param_quantizers['weight'].compute_encodings():
        layer.param_quantizers['weight'](layer.weight)
    params = SeqMseParams(num_batches=None, num_candidates=20, inp_symmetry='symqt', loss_fn='mse')
    SequentialMse.optimize_module(layer, [inputs], [inputs], params)
    quantizer = layer.param_quantizers['weight']
    zero = -quantizer.get_offset() + (2 ** (bits - 1) if symmetric else 0)
    return {
        'bits': bits,
        'symmetric': symmetric,
        'block': block,
        'scale': quantizer.get_scale().flatten().tolist(),
        'zero': torch.broadcast_to(zero, quantizer.get_scale().shape).flatten().int().tolist(),
        'quantized': quantizer(layer.weight).flatten().tolist(),
    }


def in_blocks(inputs):
    """The same inputs where a token has values in one block only, so that blocks do not see each other."""
    mask = torch.zeros_like(inputs)
    for token in range(TOKENS):
        start = token % (COLS // BLOCK) * BLOCK
        mask[token, start : start + BLOCK] = 1
    return inputs * mask


def ranges(values, bits, symmetric):
    def of(analyzer):
        analyzer.update_stats(values)
        low, high = analyzer.compute_encodings(2**bits - 1, symmetric)
        return [low.item(), high.item()]

    return {
        'bits': bits,
        'symmetric': symmetric,
        'minmax': of(MinMaxEncodingAnalyzer((1,))),
        'percentile': of(PercentileEncodingAnalyzer((1,), num_bins=2048, percentile=99)),
        'tf_enhanced': of(TfEnhancedEncodingAnalyzer((1,))),
    }


def cross_layer():
    first, second = torch.nn.Conv2d(5, 7, 1), torch.nn.Conv2d(7, 4, 1)
    first.weight.data = whole(torch.randn(7, 5, 1, 1)) / 4096
    second.weight.data = whole(torch.randn(4, 7, 1, 1) * torch.rand(7)[None, :, None, None] * 3) / 4096
    before = [whole(layer.weight.data * 1).flatten().tolist() for layer in (first, second)]
    scale = CrossLayerScaling().scale_cls_set_with_conv_layers((first, second))
    return {'first': before[0], 'second': before[1], 'scale': [float(s) for s in scale]}


torch.manual_seed(7)
weight = whole(torch.randn(ROWS, COLS) * (1 + torch.rand(COLS)))
mixing = torch.randn(COLS, COLS) * 0.4 + torch.eye(COLS)
inputs = whole(torch.randn(TOKENS, COLS) @ mixing * torch.linspace(0.3, 2, COLS))
w, x = weight / 4096, inputs / 4096
cases = [sequential_mse(w, x, bits, symmetric, 0) for bits in (2, 3, 4) for symmetric in (False, True)]
blocked = [
    sequential_mse(w, in_blocks(x), bits, symmetric, BLOCK) for bits in (2, 4) for symmetric in (False, True)
]
activations = whole(torch.cat([torch.randn(1500), torch.randn(20) * 6 + 1]))
golden = {
    'aimet': aimet_torch.__version__,
    'weight': weight.tolist(),
    'inputs': inputs.tolist(),
    'sequentialMse': cases,
    'inBlocks': blocked,
    'activations': activations.tolist(),
    'ranges': [ranges(activations / 4096, bits, symmetric) for bits in (4, 8) for symmetric in (False, True)],
    'crossLayer': cross_layer(),
}
with open(TARGET, 'w', encoding='utf-8') as file:
    json.dump(golden, file, separators=(',', ':'))
    file.write('\n')
print(os.path.getsize(TARGET), 'bytes')
